//! Who compiles a module: the replica that made the lease object of its key, for as long as it keeps changing it.
//!
//! No clock is compared with another. Who waits takes a lease over when it has looked at it for a whole term, by its own
//! clock, and found it unchanged; of several who do so the store lets one, as it replaces only what was seen.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use object_store::path::Path;
use object_store::{Error, ObjectStoreExt, PutMode, PutPayload, UpdateVersion};
use serde::{Deserialize, Serialize};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::conditions::Conditions;
use super::store::{Store, StoreFailure, with_jitter};
use crate::error::shown;

/// Renewals in a term: two may fail.
const RENEWALS: u32 = 3;
/// Looks at another's lease in a term, at least.
const LOOKS: u32 = 8;
/// How soon another's lease is looked at again at first: most compilations are short.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// The longest claim that is read.
const CLAIM_BYTES: u64 = 4096;
/// How often to try where a lease comes and goes between two looks.
const TRIES: u32 = 3;

/// What a lease object says; each renewal makes it another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Claim {
    /// Nobody else's.
    owner: String,
    /// For people.
    replica: String,
    /// How long it may stay as it is.
    term: Duration,
    renewals: u64,
}

impl Claim {
    fn payload(&self) -> PutPayload {
        // Texts and a number: there is nothing to fail.
        serde_json::to_vec(self).unwrap_or_default().into()
    }
}

/// Makes leases, all of one replica.
pub(super) struct Leases {
    pub(super) store: Arc<Store>,
    pub(super) replica: String,
    pub(super) term: Duration,
    /// What keeps leases and gives them back.
    pub(super) tasks: TaskTracker,
    pub(super) stopped: CancellationToken,
}

/// The right to compile, as far as others know; given back on drop.
pub(in crate::cache) struct Lease(#[expect(dead_code, reason = "its drop gives the lease back")] DropGuard);

/// Another's lease, as it was last seen.
pub(in crate::cache) struct Seen {
    claim: Option<Claim>,
    version: UpdateVersion,
}

impl Seen {
    /// Another replica may have another term; `ours` where the lease says none.
    fn term(&self, ours: Duration) -> Duration {
        self.claim.as_ref().map_or(ours, |claim| claim.term)
    }

    /// Whose it is, for people.
    pub(in crate::cache) fn replica(&self) -> String {
        self.claim.as_ref().map_or("?".to_owned(), |claim| shown(&claim.replica))
    }
}

/// How asking for a lease ended.
pub(super) enum Asked {
    Granted(Lease),
    Taken(Seen),
}

/// How waiting for another's lease ended.
pub(in crate::cache) enum Waited {
    /// It was given back.
    Ended,
    /// Its owner gave no sign for a term.
    Dead(Seen),
    /// Longer than it was worth, or the store is gone.
    GaveUp,
}

impl Leases {
    /// Asks for the lease `path`; `dead` is one that may be replaced.
    pub(super) async fn ask(
        &self,
        path: &Path,
        dead: Option<Seen>,
        conditions: Conditions,
    ) -> Result<Asked, StoreFailure> {
        let claim =
            Claim { owner: random_name(), replica: self.replica.clone(), term: self.term, renewals: 0 };
        let mut replaced = dead.map(|dead| dead.version);
        for _ in 0..TRIES {
            let put = match replaced.take() {
                Some(version) => self.replace(path, &claim, version, conditions).await,
                None => self.put(path, &claim, PutMode::Create).await,
            };
            let failure = match put {
                Ok(version) => return Ok(Asked::Granted(self.hold(path, claim, version, conditions))),
                Err(failure) => failure,
            };
            if !is_conflict(&failure) {
                return Err(failure);
            }
            match self.look(path).await? {
                // The answer to our own was lost on the way, and the request made again.
                Some(seen) if seen.claim.as_ref() == Some(&claim) => {
                    return Ok(Asked::Granted(self.hold(path, claim, seen.version, conditions)));
                }
                Some(seen) => return Ok(Asked::Taken(seen)),
                None => {}
            }
        }
        Err(StoreFailure::Unsteady)
    }

    /// Gives all leases back.
    pub(super) async fn stop(&self) {
        self.stopped.cancel();
        self.tasks.close();
        // Each asks the store for two things at most.
        let _ = tokio::time::timeout(self.store.timeout() * 2, self.tasks.wait()).await;
    }

    /// Waits for another's lease to end, `limit` at most.
    pub(super) async fn wait(&self, path: &Path, mut seen: Seen, limit: Duration) -> Waited {
        let began = Instant::now();
        let longest = (self.term / LOOKS).min(LONGEST_PAUSE);
        let mut pause = FIRST_PAUSE.min(longest);
        let (mut quiet, mut looked) = (Duration::ZERO, Instant::now());
        while began.elapsed() < limit {
            tokio::time::sleep(with_jitter(pause)).await;
            match self.look(path).await {
                Ok(None) => return Waited::Ended,
                Ok(Some(now)) if now.claim == seen.claim => {
                    // Time in which this process did not look either is no sign of the other's death.
                    quiet += looked.elapsed().min(2 * pause + self.store.timeout());
                    seen = now;
                    if quiet >= seen.term(self.term) {
                        return Waited::Dead(seen);
                    }
                }
                Ok(Some(now)) => (seen, quiet) = (now, Duration::ZERO),
                Err(_) if self.store.is_gone() => return Waited::GaveUp,
                Err(_) => {}
            }
            looked = Instant::now();
            pause = (pause * 2).min(longest);
        }
        Waited::GaveUp
    }

    async fn look(&self, path: &Path) -> Result<Option<Seen>, StoreFailure> {
        look(&self.store, path).await
    }

    async fn put(&self, path: &Path, claim: &Claim, mode: PutMode) -> Result<UpdateVersion, StoreFailure> {
        put(&self.store, path, claim, mode).await
    }

    async fn replace(
        &self,
        path: &Path,
        claim: &Claim,
        version: UpdateVersion,
        conditions: Conditions,
    ) -> Result<UpdateVersion, StoreFailure> {
        if conditions == Conditions::CreateAndReplace {
            return self.put(path, claim, PutMode::Update(version)).await;
        }
        // Two who find an owner dead at the same moment both compile; nothing worse comes of it.
        self.store.ask(self.store.objects.delete(path)).await?;
        self.put(path, claim, PutMode::Create).await
    }

    fn hold(&self, path: &Path, claim: Claim, version: UpdateVersion, conditions: Conditions) -> Lease {
        let ended = self.stopped.child_token();
        let held = Held {
            store: self.store.clone(),
            path: path.clone(),
            claim,
            version,
            replaces: conditions == Conditions::CreateAndReplace,
            term: self.term,
        };
        self.tasks.spawn(held.keep(ended.clone()));
        Lease(ended.drop_guard())
    }
}

/// A lease of ours and what keeps it.
struct Held {
    store: Arc<Store>,
    path: Path,
    claim: Claim,
    version: UpdateVersion,
    replaces: bool,
    term: Duration,
}

impl Held {
    /// Renews the lease until its end, then gives it back.
    async fn keep(mut self, ended: CancellationToken) {
        let mut renewed = Instant::now();
        while ended.run_until_cancelled(tokio::time::sleep(self.term / RENEWALS)).await.is_some() {
            match self.renew().await {
                Ok(true) => renewed = Instant::now(),
                Ok(false) => {
                    tracing::warn!(lease = %self.path, "another replica took over what is compiled here");
                    return;
                }
                // Told by the store already; the next renewal may come in time.
                Err(_) => {}
            }
        }
        // Held up for so long, it may be another's.
        let ours = renewed.elapsed() < self.term
            || matches!(look(&self.store, &self.path).await, Ok(Some(seen)) if seen.claim.as_ref() == Some(&self.claim));
        if ours {
            // What stays is waited for once, for a term.
            let _ = self.store.ask(self.store.objects.delete(&self.path)).await;
        }
    }

    /// Whether the lease is still ours.
    async fn renew(&mut self) -> Result<bool, StoreFailure> {
        let before = self.claim.clone();
        self.claim.renewals += 1;
        if !self.replaces {
            let seen = look(&self.store, &self.path).await?;
            if seen.and_then(|seen| seen.claim).is_none_or(|claim| claim.owner != before.owner) {
                return Ok(false);
            }
        }
        let mode = match self.replaces {
            true => PutMode::Update(self.version.clone()),
            false => PutMode::Overwrite,
        };
        match put(&self.store, &self.path, &self.claim, mode).await {
            Ok(version) => self.version = version,
            Err(failure) if is_conflict(&failure) => match look(&self.store, &self.path).await? {
                // An answer was lost on the way.
                Some(seen) if seen.claim.as_ref().is_some_and(|claim| claim.owner == before.owner) => {
                    self.version = seen.version;
                }
                _ => return Ok(false),
            },
            Err(failure) => return Err(failure),
        }
        Ok(true)
    }
}

async fn put(
    store: &Store,
    path: &Path,
    claim: &Claim,
    mode: PutMode,
) -> Result<UpdateVersion, StoreFailure> {
    let put = store.objects.put_opts(path, claim.payload(), mode.into());
    store.ask(put).await.map(UpdateVersion::from)
}

async fn look(store: &Store, path: &Path) -> Result<Option<Seen>, StoreFailure> {
    let get = async {
        let found = store.objects.get(path).await?;
        let version = UpdateVersion { e_tag: found.meta.e_tag.clone(), version: found.meta.version.clone() };
        let text = match found.meta.size {
            0..=CLAIM_BYTES => found.bytes().await?,
            _ => Bytes::new(),
        };
        Ok((text, version))
    };
    match store.ask(get).await {
        // What is no claim is one of nobody: it never changes, so it is taken over.
        Ok((text, version)) => Ok(Some(Seen { claim: serde_json::from_slice(&text).ok(), version })),
        Err(StoreFailure::Store(Error::NotFound { .. })) => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// Somebody else was there first.
fn is_conflict(failure: &StoreFailure) -> bool {
    use Error::{AlreadyExists, NotFound, Precondition};
    matches!(failure, StoreFailure::Store(AlreadyExists { .. } | Precondition { .. } | NotFound { .. }))
}

/// A name that nobody else has.
pub(super) fn random_name() -> String {
    use std::hash::{BuildHasher, Hasher};
    let part = || std::hash::RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", part(), part())
}
