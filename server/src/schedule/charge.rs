//! What an execution counts for, and for whom: its lane beside other lanes, and its requests' tenants beside other tenants.

use std::sync::Arc;
use std::time::Duration;

use super::backlog::{Entry, Key};
use super::queue::Ticket;
use super::shares::Shares;
use crate::tenants::Tenant;

/// What was charged when an execution began.
#[derive(Debug)]
pub(super) struct Charges {
    /// What it was thought to compute.
    pub(super) estimated: Duration,
    /// Each tenant that is told apart, and its part of the whole; first the one whose turn it was.
    tenants: Vec<(Arc<Tenant>, f64)>,
}

impl Charges {
    /// Of one request.
    pub(super) fn of(ticket: &Ticket, estimated: Duration) -> Self {
        Self { estimated, tenants: ticket.tenant.iter().map(|tenant| (tenant.clone(), 1.0)).collect() }
    }

    /// Of requests that run as one: each counts for its rows.
    pub(super) fn of_all(members: &[(Key, Entry)], estimated: Duration) -> Self {
        if let [(_, alone)] = members {
            return Self::of(&alone.ticket, estimated);
        }
        let rows: u64 = members.iter().map(|(_, entry)| entry.ticket.rows).sum();
        let part = |ticket: &Ticket| ticket.rows as f64 / rows.max(1) as f64;
        let tenants = members
            .iter()
            .filter_map(|(_, Entry { ticket, .. })| Some((ticket.tenant.clone()?, part(ticket))));
        Self { estimated, tenants: tenants.collect() }
    }

    /// The tenants' turns, by what the execution is thought to take; `least` is that of [`Shares::serve`].
    pub(super) fn serve(&self, shares: &mut Shares, least: f64) {
        for (at, (tenant, part)) in self.tenants.iter().enumerate() {
            let cost = self.estimated.as_secs_f64() * part / tenant.weight();
            match at {
                0 => shares.serve(tenant.id(), cost, least),
                _ => shares.charge(tenant.id(), cost),
            }
        }
    }

    /// By what it took in the end.
    pub(super) fn correct(&self, shares: &mut Shares, compute: Duration) {
        let more = self.more(compute);
        for (tenant, part) in &self.tenants {
            shares.charge(tenant.id(), more * part / tenant.weight());
        }
    }

    /// Seconds that it took beyond what was thought.
    pub(super) fn more(&self, compute: Duration) -> f64 {
        compute.as_secs_f64() - self.estimated.as_secs_f64()
    }

    /// For the tenants' metrics.
    pub(super) fn note(&self, compute: Duration) {
        for (tenant, part) in &self.tenants {
            tenant.computed(compute.mul_f64(*part));
        }
    }
}
