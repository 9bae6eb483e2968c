//! The bound on how many requests are inside a version, and on how many of them one tenant may have ([`BESIDE_FREE`]).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::schedule::Why;
use crate::tenants::{BESIDE_FREE, Tenant};

#[derive(Debug)]
pub(super) struct Bound {
    places: Arc<Semaphore>,
    limit: u32,
    /// Requests inside, of tenants that are told apart and have any.
    tenants: Mutex<BTreeMap<u64, usize>>,
}

/// A request that is inside a version while this is there.
#[derive(Debug)]
pub struct Inside {
    _place: OwnedSemaphorePermit,
    _of_tenant: Option<OfTenant>,
}

#[derive(Debug)]
struct OfTenant {
    bound: Arc<Bound>,
    tenant: u64,
}

impl Bound {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        let limit = u32::try_from(limit.min(Semaphore::MAX_PERMITS)).unwrap_or(u32::MAX);
        let places = Arc::new(Semaphore::new(limit as usize));
        Arc::new(Self { places, limit, tenants: Mutex::default() })
    }

    /// Lets one more in.
    ///
    /// # Errors
    /// Why there is no room.
    pub(super) fn enter(self: &Arc<Self>, tenant: Option<&Tenant>) -> Result<Inside, Why> {
        let limit = self.limit as usize;
        let take = || self.places.clone().try_acquire_owned().map_err(|_| Why::Full { limit });
        let Some(tenant) = tenant else { return Ok(Inside { _place: take()?, _of_tenant: None }) };
        let mut tenants = self.lock();
        let free = self.places.available_permits();
        let inside = tenants.get(&tenant.id()).copied().unwrap_or(0);
        if inside > 0 && free > 0 && inside >= BESIDE_FREE * free {
            return Err(Why::Crowded { tenant: tenant.name().to_owned(), inside, free, limit });
        }
        let place = take()?;
        *tenants.entry(tenant.id()).or_default() += 1;
        let of_tenant = OfTenant { bound: self.clone(), tenant: tenant.id() };
        Ok(Inside { _place: place, _of_tenant: Some(of_tenant) })
    }

    /// Waits until nobody is inside, and lets nobody in any more.
    pub(super) async fn wait_empty(&self) {
        // Who holds every place is alone.
        if let Ok(places) = self.places.acquire_many(self.limit).await {
            places.forget();
        }
    }

    pub(super) fn close(&self) {
        self.places.close();
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, usize>> {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for OfTenant {
    fn drop(&mut self) {
        let mut tenants = self.bound.lock();
        if let Some(inside) = tenants.get_mut(&self.tenant) {
            *inside -= 1;
            if *inside == 0 {
                tenants.remove(&self.tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tenants::{Listed, Tenants};

    fn flood(bound: &Arc<Bound>, tenant: &Tenant) -> Vec<Inside> {
        std::iter::from_fn(|| bound.enter(Some(tenant)).ok()).collect()
    }

    #[test]
    fn who_floods_leaves_room_for_those_who_come_next() {
        let listed = Listed::new(Vec::new(), &Arc::new(Tenants::default()));
        let [a, b, c, d] = ["a", "b", "c", "d"].map(|name| listed.find(name));
        let bound = Bound::new(256);
        let of_a = flood(&bound, &a);
        assert_eq!(of_a.len(), 205);
        let why = bound.enter(Some(&a)).unwrap_err();
        assert_eq!(
            why.to_string(),
            "has 205 requests of tenant `a` inside already; 51 of 256 places are left for others"
        );
        let of_b = flood(&bound, &b);
        let of_c = flood(&bound, &c);
        assert_eq!((of_b.len(), of_c.len()), (41, 8));
        drop(bound.enter(Some(&d)).unwrap());
    }

    #[test]
    fn the_last_place_is_for_whoever_comes() {
        let listed = Listed::new(Vec::new(), &Arc::new(Tenants::default()));
        let bound = Bound::new(1);
        let only = bound.enter(Some(&listed.find("a"))).unwrap();
        assert_eq!(bound.enter(Some(&listed.find("b"))).unwrap_err(), Why::Full { limit: 1 });
        assert_eq!(bound.enter(None).unwrap_err(), Why::Full { limit: 1 });
        drop(only);
        assert!(bound.lock().is_empty());
        drop(bound.enter(None).unwrap());
    }
}
