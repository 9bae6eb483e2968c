//! The command line of `ired`.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The IR execution daemon: compiles models with MLIR and serves them.
///
/// Every setting of the file is also an environment variable: `queue_limit` is IRED_QUEUE_LIMIT, and `certificate` of
/// table `tls` is IRED_TLS_CERTIFICATE. Flags win over the environment, and that over the file.
#[derive(Debug, Default, Parser)]
#[command(name = "ired", version)]
pub struct Arguments {
    /// Directory of models: NAME/VERSION/model.onnx, NAME/model.onnx or NAME.onnx
    #[arg(long, value_name = "DIR")]
    pub model_repository: Option<PathBuf>,
    /// Where uploads and compiled modules are kept
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Address of the REST front door
    #[arg(long, value_name = "ADDR")]
    pub http: Option<String>,
    /// Address of the gRPC front door
    #[arg(long, value_name = "ADDR")]
    pub grpc: Option<String>,
    /// Address of the Prometheus metrics
    #[arg(long, value_name = "ADDR")]
    pub metrics: Option<String>,
    /// Layers of the sandbox without which nothing is compiled or served: none, baseline or strict
    #[arg(long, value_name = "LEVEL")]
    pub require_sandbox: Option<String>,
    /// Whether the server is ready only once every model that it serves from the start answers: true or false
    #[arg(long, value_name = "BOOL")]
    pub strict_readiness: Option<String>,
    /// Settings file; the environment and flags win over it
    #[arg(long, value_name = "FILE", env = "IRED_CONFIG")]
    pub config: Option<PathBuf>,
    /// Cores with a name that `instance_group.host_policy` of models may give, such as `numa0=0-15` or `fast=0,2,4-7`;
    /// setting `device_groups`
    #[arg(long, value_name = "NAME=CORES")]
    pub device_group: Vec<String>,
    /// Any setting of the file, such as `queue_limit=7` or `tls.client_ca=ca.pem`
    #[arg(long, value_name = "NAME=VALUE")]
    pub set: Vec<String>,
    /// What to log, such as `info` or `ired=debug`
    #[arg(long, value_name = "FILTER")]
    pub log: Option<String>,
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What to do instead of serving.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Looks at the settings
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Makes a token for callers, and shows what the access file needs to know of it
    Token {
        /// Whose it is, for the record
        name: String,
        /// A role that it has
        #[arg(long, required = true)]
        role: Vec<String>,
        /// The tenant that it belongs to
        #[arg(long)]
        tenant: Option<String>,
        /// When it ends, such as 2027-01-01T00:00:00Z
        #[arg(long, value_name = "TIME", value_parser = expiry)]
        expires: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Checks the settings, and the certificates, keys and access file that they name
    Check {
        /// Settings file, instead of the one of --config
        file: Option<PathBuf>,
    },
    /// Shows every setting and where it comes from
    Show,
}

/// A time as the access file takes it, and that is yet to come.
fn expiry(text: &str) -> Result<String, String> {
    match OffsetDateTime::parse(text, &Rfc3339) {
        Ok(time) if time > OffsetDateTime::now_utc() => Ok(text.to_owned()),
        Ok(_) => Err("it has passed already".to_owned()),
        Err(_) => Err("expected a time such as 2027-01-01T00:00:00Z".to_owned()),
    }
}

impl Arguments {
    /// The settings that flags of their own were given for.
    pub(super) fn settings(&self) -> Vec<(&'static str, &'static str, String)> {
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.to_string_lossy().into_owned());
        let all = [
            ("model_repository", "--model-repository", path(&self.model_repository)),
            ("data_dir", "--data-dir", path(&self.data_dir)),
            ("http", "--http", self.http.clone()),
            ("grpc", "--grpc", self.grpc.clone()),
            ("metrics", "--metrics", self.metrics.clone()),
            ("require_sandbox", "--require-sandbox", self.require_sandbox.clone()),
            ("strict_readiness", "--strict-readiness", self.strict_readiness.clone()),
            ("log", "--log", self.log.clone()),
        ];
        all.into_iter().filter_map(|(name, flag, value)| Some((name, flag, value?))).collect()
    }
}
