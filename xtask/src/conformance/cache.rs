//! The cache that replicas share, against an S3 server of somebody else: the program is in `tests/`.

use anyhow::Result;

use crate::python;
use crate::under_load::Programs;

#[derive(clap::Args)]
pub(crate) struct Cache {
    #[command(flatten)]
    programs: Programs,
    /// Models that both daemons get at once
    #[arg(long, default_value_t = 200)]
    models: usize,
}

impl Cache {
    pub(super) fn run(&self) -> Result<()> {
        let moto = format!("--moto={}", python::moto_server()?.display());
        self.programs.start("ired-replicas", vec![moto, format!("--models={}", self.models)])
    }
}
