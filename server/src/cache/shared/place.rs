//! The object store that a URL names.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};

use crate::config::SharedCacheSettings;

/// How often a request is made again that failed at once; the deadline of all of them is another.
const RETRIES: usize = 2;

/// Opens the store of these settings; asks nothing of it yet.
///
/// # Errors
/// A URL or an option that means nothing.
pub(super) fn open(url: &str, settings: &SharedCacheSettings) -> anyhow::Result<Arc<dyn ObjectStore>> {
    let options = settings.options.iter().map(|option| {
        let (name, value) = option.split_once('=').with_context(|| {
            format!("setting `shared_cache.options`: found `{option}`, expected NAME=VALUE")
        })?;
        Ok((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
    });
    let options = options.collect::<anyhow::Result<Vec<_>>>()?;
    let (scheme, rest) = url.split_once("://").ok_or_else(|| unknown(url))?;
    if scheme == "file" {
        return directory(rest, &options);
    }
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() {
        return Err(unknown(url));
    }
    let prefix = Path::parse(prefix.trim_end_matches('/'))
        .with_context(|| format!("setting `shared_cache.url`: `{prefix}` is no prefix of names"))?;
    macro_rules! cloud {
        ($builder:expr) => {{
            let mut builder = $builder.with_url(format!("{scheme}://{bucket}"));
            for (name, value) in &options {
                let key = name.parse().map_err(|_| unknown_option(name, scheme))?;
                builder = builder.with_config(key, value);
            }
            let timeout = settings.timeout();
            let builder = builder.with_retry(retries(timeout)).with_client_options(client(timeout));
            let store = builder
                .build()
                .with_context(|| format!("cannot use `{url}` (setting `shared_cache.url`)"))?;
            Ok(Arc::new(PrefixStore::new(store, prefix)))
        }};
    }
    match scheme {
        // Single objects are removed; not every store has the request for many.
        "s3" | "s3a" => cloud!(AmazonS3Builder::from_env().with_disable_bulk_delete(true)),
        "gs" => cloud!(GoogleCloudStorageBuilder::from_env()),
        "az" | "abfs" | "abfss" => cloud!(MicrosoftAzureBuilder::from_env()),
        _ => Err(unknown(url)),
    }
}

fn directory(path: &str, options: &[(String, String)]) -> anyhow::Result<Arc<dyn ObjectStore>> {
    let path = PathBuf::from(path);
    if !path.is_absolute() {
        bail!("setting `shared_cache.url`: `{}` is no absolute path", path.display());
    }
    if let Some((name, _)) = options.first() {
        return Err(unknown_option(name, "file"));
    }
    std::fs::create_dir_all(&path).with_context(|| format!("cannot create `{}`", path.display()))?;
    let store = LocalFileSystem::new_with_prefix(&path);
    let store =
        store.with_context(|| format!("cannot use `{}` (setting `shared_cache.url`)", path.display()))?;
    Ok(Arc::new(store))
}

fn unknown(url: &str) -> anyhow::Error {
    anyhow!(
        "setting `shared_cache.url`: found `{url}`, expected `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX`, \
         `az://CONTAINER/PREFIX` or `file:///DIRECTORY`"
    )
}

fn unknown_option(name: &str, scheme: &str) -> anyhow::Error {
    anyhow!("setting `shared_cache.options`: `{name}` is no option of `{scheme}:` stores")
}

fn retries(timeout: Duration) -> RetryConfig {
    let backoff = BackoffConfig {
        init_backoff: Duration::from_millis(100),
        max_backoff: Duration::from_secs(1),
        base: 2.0,
    };
    RetryConfig { backoff, max_retries: RETRIES, retry_timeout: timeout }
}

/// Without a deadline for whole requests, as those for large modules take their time: whoever makes one has its own.
fn client(timeout: Duration) -> ClientOptions {
    // An endpoint without TLS is one that the operator wrote down so.
    ClientOptions::new().with_timeout_disabled().with_connect_timeout(timeout / 2).with_allow_http(true)
}
