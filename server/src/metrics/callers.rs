//! What is known of callers: tokens that were not accepted, and what tenants have. Only tenants that are listed have a
//! label of their own, so that strangers make no labels.

use super::text::Text;
use crate::auth::Gate;
use crate::tenants::{Listed, REASONS, Usage};

pub(super) fn render(text: &mut Text, gate: &Gate) {
    let Some(access) = &gate.access else { return };
    let (failed, refused) = (gate.throttle.failed.get(), gate.throttle.refused.get());
    text.single("ired_authentication_failures_total", "counter", "Tokens that were not accepted", failed);
    text.single(
        "ired_authentication_throttled_total",
        "counter",
        "Tokens that were not looked at, as too many from their address were not accepted",
        refused,
    );
    if let Some(listed) = access.current().tenants() {
        tenants(text, listed);
    }
}

type Read = fn(&Usage) -> f64;

fn tenants(text: &mut Text, listed: &Listed) {
    let families: [(&str, &str, &str, Read); 4] = [
        ("ired_tenant_requests_total", "counter", "Requests that a tenant's limits let in", |usage| {
            usage.admitted() as f64
        }),
        (
            "ired_tenant_requests_inside",
            "gauge",
            "Requests of a tenant inside, waiting or running",
            |usage| usage.inside() as f64,
        ),
        ("ired_tenant_requests_waiting", "gauge", "Requests of a tenant that wait for their turn", |usage| {
            usage.waiting() as f64
        }),
        ("ired_tenant_compute_seconds_total", "counter", "Compute time of a tenant's requests", |usage| {
            usage.compute().as_secs_f64()
        }),
    ];
    for (name, kind, help, read) in families {
        text.family(name, kind, help);
        for (tenant, usage) in listed.counted() {
            text.sample(name, &[("tenant", tenant)], read(usage));
        }
    }
    const REFUSED: &str = "ired_tenant_requests_refused_total";
    text.family(REFUSED, "counter", "Requests beyond a tenant's limits, by reason");
    for (tenant, usage) in listed.counted() {
        for (reason, count) in REASONS.into_iter().zip(usage.refused()) {
            text.sample(REFUSED, &[("tenant", tenant), ("reason", reason)], count);
        }
    }
}
