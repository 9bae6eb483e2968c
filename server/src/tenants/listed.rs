//! The tenants that an access file lists, and those that it does not.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::{Limits, Tenant, Tenants, Usage};

/// The tenant of callers who belong to none; it need not be listed.
pub const DEFAULT: &str = "default";
/// The entry for those that have none: each of them has these limits for itself.
pub const OTHERS: &str = "*";

/// Who is a tenant, by one reading of the access file.
pub struct Listed {
    tenants: BTreeMap<String, Arc<Tenant>>,
    others: Limits,
    /// Of all that are not listed.
    others_counted: Arc<Usage>,
    default: Arc<Tenant>,
    known: Arc<Tenants>,
}

impl Listed {
    /// Of entries with different names.
    pub fn new(entries: Vec<(String, Limits)>, known: &Arc<Tenants>) -> Self {
        let of = |name: &str, limits: Limits| {
            let usage = known.usage(name);
            Arc::new(Tenant { name: name.into(), limits, counted: usage.clone(), usage })
        };
        let mut tenants: BTreeMap<String, Arc<Tenant>> =
            entries.into_iter().map(|(name, limits)| (name.clone(), of(&name, limits))).collect();
        let others = tenants.remove(OTHERS).map(|others| others.limits.clone()).unwrap_or_default();
        let default =
            tenants.entry(DEFAULT.to_owned()).or_insert_with(|| of(DEFAULT, Limits::default())).clone();
        Self { tenants, others, others_counted: known.usage(OTHERS), default, known: known.clone() }
    }

    /// The tenant of this name, listed or not.
    pub fn find(&self, name: &str) -> Arc<Tenant> {
        self.listed(name).cloned().unwrap_or_else(|| {
            Arc::new(Tenant {
                name: name.into(),
                limits: self.others.clone(),
                usage: self.known.usage(name),
                counted: self.others_counted.clone(),
            })
        })
    }

    /// The tenant with an entry of its own.
    pub fn listed(&self, name: &str) -> Option<&Arc<Tenant>> {
        self.tenants.get(name)
    }

    pub fn default_tenant(&self) -> &Arc<Tenant> {
        &self.default
    }

    /// What is counted, by a name for the metrics: of each tenant that is listed, and of all others together.
    pub fn counted(&self) -> impl Iterator<Item = (&str, &Usage)> {
        let others = (OTHERS, &*self.others_counted);
        let listed = self.tenants.iter().map(|(name, tenant)| (name.as_str(), &*tenant.counted));
        std::iter::once(others).chain(listed)
    }
}

impl fmt::Debug for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.tenants.keys()).finish()
    }
}
