//! The object store as it is: far away, sometimes slow, sometimes not there. No request lasts longer than a deadline, and
//! once the store has failed a few times nobody waits for it until it answers again.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt};
use tokio::sync::Notify;

use crate::metrics::SharedCacheMetrics;

/// Failures in a row after which the store counts as gone.
const FAILURES_ALLOWED: u32 = 3;
/// How soon a store that is gone is looked at again, at first and at last.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];

/// Why a request had no result.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreFailure {
    #[error("the object store is not answering")]
    Gone,
    #[error("the object store did not answer within {0:?}")]
    Late(Duration),
    #[error("a lease came and went between any two looks at it")]
    Unsteady,
    #[error("the module cannot be read: {cause}")]
    Unreadable { cause: std::io::Error },
    #[error(transparent)]
    Store(#[from] Error),
}

/// The store has spoken, be it that it refuses.
fn is_answer(error: &Error) -> bool {
    use Error::{
        AlreadyExists, NotFound, NotImplemented, NotModified, PermissionDenied, Precondition, Unauthenticated,
    };
    matches!(
        error,
        NotFound { .. }
            | AlreadyExists { .. }
            | Precondition { .. }
            | NotModified { .. }
            | NotImplemented { .. }
            | PermissionDenied { .. }
            | Unauthenticated { .. }
    )
}

pub(super) struct Store {
    pub(super) objects: Arc<dyn ObjectStore>,
    timeout: Duration,
    failures: AtomicU32,
    gone: AtomicBool,
    went: Notify,
    metrics: Arc<SharedCacheMetrics>,
}

impl Store {
    pub(super) fn new(
        objects: Arc<dyn ObjectStore>,
        timeout: Duration,
        metrics: Arc<SharedCacheMetrics>,
    ) -> Self {
        Self {
            objects,
            timeout,
            failures: AtomicU32::new(0),
            gone: AtomicBool::new(false),
            went: Notify::new(),
            metrics,
        }
    }

    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Makes a request for something small.
    pub(super) async fn ask<T>(
        &self,
        request: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, StoreFailure> {
        self.ask_within(self.timeout, request).await
    }

    /// Makes a request that may take so long, unless the store is gone.
    pub(super) async fn ask_within<T>(
        &self,
        deadline: Duration,
        request: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, StoreFailure> {
        if self.is_gone() {
            return Err(StoreFailure::Gone);
        }
        let result = match tokio::time::timeout(deadline, request).await {
            Ok(result) => result.map_err(StoreFailure::Store),
            Err(_) => Err(StoreFailure::Late(deadline)),
        };
        match &result {
            Err(failure) if !matches!(failure, StoreFailure::Store(error) if is_answer(error)) => {
                self.note_failure(failure);
            }
            _ => self.failures.store(0, Ordering::Relaxed),
        }
        result
    }

    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    fn note_failure(&self, failure: &StoreFailure) {
        self.metrics.failures.add(1);
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        if failures >= FAILURES_ALLOWED && !self.gone.swap(true, Ordering::AcqRel) {
            self.metrics.set_up(false);
            tracing::warn!(error = %failure, "the shared cache does not answer; models are compiled without it");
            self.went.notify_one();
        } else if failures < FAILURES_ALLOWED {
            tracing::warn!(error = %failure, "a request to the shared cache failed");
        }
    }

    /// Tells what is wrong with the store at the start, then looks after it while it is gone, so that no compilation has
    /// to; never returns.
    pub(super) async fn watch(&self) {
        let nothing = Path::from("is-there");
        // Other failures are told where they are counted.
        if let Err(StoreFailure::Store(error)) = self.ask(self.objects.head(&nothing)).await
            && matches!(error, Error::PermissionDenied { .. } | Error::Unauthenticated { .. })
        {
            tracing::warn!(%error, "the shared cache may not be read, or its names may not be listed");
        }
        loop {
            self.went.notified().await;
            let mut pause = PAUSES[0];
            loop {
                tokio::time::sleep(with_jitter(pause)).await;
                let looked = self.objects.head(&nothing);
                match tokio::time::timeout(self.timeout, looked).await {
                    Ok(Ok(_)) => break,
                    Ok(Err(error)) if is_answer(&error) => break,
                    _ => pause = (pause * 2).min(PAUSES[1]),
                }
            }
            self.failures.store(0, Ordering::Relaxed);
            self.gone.store(false, Ordering::Release);
            self.metrics.set_up(true);
            tracing::info!("the shared cache answers again");
        }
    }
}

/// Between three quarters of a time and five quarters, so that replicas do not go in step.
pub(super) fn with_jitter(time: Duration) -> Duration {
    use std::hash::{BuildHasher, Hasher};
    // Every state of the standard library's hash tables is a random one.
    let random = std::hash::RandomState::new().build_hasher().finish();
    time.mul_f64(0.75 + (random >> 11) as f64 / (1u64 << 53) as f64 / 2.0)
}
