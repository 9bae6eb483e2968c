//! Does the store keep to "only if it is not there", and to "only if it is still what I saw"? Not all do that speak S3; those
//! that pass over the conditions would give everybody the lease.

use object_store::path::Path;
use object_store::{Error, ObjectStoreExt, PutMode, PutPayload, UpdateVersion};

use super::lease::random_name;
use super::store::{Store, StoreFailure};

/// Which conditions a store keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Conditions {
    CreateAndReplace,
    /// A directory, and some stores that speak S3.
    CreateOnly,
    None,
}

impl Conditions {
    /// Tries them on an object of its own.
    ///
    /// # Errors
    /// A store that does not answer: nothing is known of it.
    pub(super) async fn of(store: &Store) -> Result<Self, StoreFailure> {
        let path = Path::from("leases").join(format!("trial-{}", random_name()));
        let found = Self::try_on(store, &path).await;
        let _ = store.ask(store.objects.delete(&path)).await;
        found
    }

    async fn try_on(store: &Store, path: &Path) -> Result<Self, StoreFailure> {
        let put = |content: &'static str, mode: PutMode| {
            store.ask(store.objects.put_opts(path, PutPayload::from_static(content.as_bytes()), mode.into()))
        };
        let version: UpdateVersion = match put("1", PutMode::Create).await {
            Ok(made) => made.into(),
            Err(failure) => {
                // One that cannot take the condition takes the object without it.
                put("1", PutMode::Overwrite).await?;
                tracing::warn!(error = %failure, "the shared cache's store takes no conditional put");
                return Ok(Self::None);
            }
        };
        match put("2", PutMode::Create).await {
            Ok(_) => return Ok(Self::None),
            Err(StoreFailure::Store(Error::AlreadyExists { .. } | Error::Precondition { .. })) => {}
            Err(failure) => return Err(failure),
        }
        if put("3", PutMode::Update(version.clone())).await.is_err() {
            return Ok(Self::CreateOnly);
        }
        match put("4", PutMode::Update(version)).await {
            Err(StoreFailure::Store(Error::AlreadyExists { .. } | Error::Precondition { .. })) => {
                Ok(Self::CreateAndReplace)
            }
            Ok(_) => Ok(Self::CreateOnly),
            Err(failure) => Err(failure),
        }
    }
}
