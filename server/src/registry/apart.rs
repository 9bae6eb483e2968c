//! Processes that tenants have for themselves, where the sandbox is strict: then what one tenant's request does to its
//! process, it does to no other tenant's. The default tenant has the process that the version was tried with; of the
//! others each has its own from its first request on, which takes its memory and makes room like any other.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::resident::Resident;
use crate::error::Error;
use crate::schedule::{Lane, Refusal, Why};
use crate::tenants::{self, Tenant};

/// Processes of one version's tenants at most: small models fit into memory more often than machines have processes.
const MOST: usize = 64;

pub(super) struct Apart {
    model: String,
    /// Of the default tenant.
    first: Arc<Resident>,
    own: Mutex<BTreeMap<u64, Arc<Resident>>>,
}

impl Apart {
    pub(super) fn new(model: &str, first: &Arc<Resident>) -> Self {
        Self { model: model.to_owned(), first: first.clone(), own: Mutex::default() }
    }

    /// A tenant's own.
    ///
    /// # Errors
    /// [`Error::Refused`] where there are too many that are all in use, [`Error::Stopping`] once the version is to end.
    pub(super) async fn of(&self, tenant: &Tenant, lane: &Lane) -> Result<Arc<Resident>, Error> {
        if tenant.id() == tenants::DEFAULT_ID {
            return Ok(self.first.clone());
        }
        loop {
            if let Some(own) = self.find_or_add(tenant.id())? {
                return Ok(own);
            }
            if !self.evict_one().await {
                let why = Why::Processes { limit: MOST };
                return Err(Refusal::new(&self.model, why, lane.retry_after()).into());
            }
        }
    }

    /// All but the default tenant's.
    pub(super) fn all(&self) -> Vec<Arc<Resident>> {
        self.lock().values().cloned().collect()
    }

    /// `None` where one has to go before.
    fn find_or_add(&self, tenant: u64) -> Result<Option<Arc<Resident>>, Error> {
        let mut own = self.lock();
        if let Some(found) = own.get(&tenant) {
            return Ok(Some(found.clone()));
        }
        // Under the lock, so that none is missed when the version ends.
        if self.first.is_closed() {
            return Err(Error::Stopping);
        }
        // Of what made room and nobody is about to use nothing is left.
        own.retain(|_, resident| resident.is_loaded() || Arc::strong_count(resident) > 1);
        if own.len() >= (MOST / self.first.process_count()).max(1) {
            return Ok(None);
        }
        Ok(Some(own.entry(tenant).or_insert_with(|| self.first.apart()).clone()))
    }

    /// Unloads the idle one that was not used for longest.
    async fn evict_one(&self) -> bool {
        let mut all = self.all();
        all.sort_by_key(|resident| resident.last_use());
        for resident in all {
            if resident.evict().await {
                return true;
            }
        }
        false
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Resident>>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
