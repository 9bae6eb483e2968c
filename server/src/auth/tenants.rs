//! Tenants as the access file lists them.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use crate::schedule::Rate;
use crate::tenants::{Limits, Listed, OTHERS, Tenant, Tenants};

/// The longest name of a tenant, in characters.
const NAME_CHARS: usize = 128;
/// Weights beyond these are rather mistakes.
const WEIGHTS: std::ops::RangeInclusive<f64> = 0.001..=1000.0;

/// What a tenant may have.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TenantEntry {
    /// `*`: each that is not listed.
    #[serde(deserialize_with = "name")]
    name: Spanned<String>,
    /// What its compute time counts for beside others'.
    #[serde(default = "one", deserialize_with = "weight")]
    weight: f64,
    /// Requests inside at once, waiting or running.
    #[serde(default, deserialize_with = "count")]
    requests: Option<usize>,
    /// Of them, those that wait.
    #[serde(default, deserialize_with = "count")]
    waiting: Option<usize>,
    #[serde(default, deserialize_with = "rate")]
    requests_per_second: Option<f64>,
    /// Requests at once after a pause; as many as in a second, where it is not there.
    #[serde(default, deserialize_with = "burst")]
    burst: Option<Spanned<f64>>,
}

/// What is wrong, and at which offset of the file.
pub(super) type Misplaced = (usize, String);

/// # Errors
/// An entry that contradicts itself or another.
pub(super) fn list(entries: Vec<TenantEntry>, known: &Arc<Tenants>) -> Result<Listed, Misplaced> {
    let mut found: BTreeMap<String, Limits> = BTreeMap::new();
    for entry in entries {
        let (at, name) = (entry.name.span().start, entry.name.into_inner());
        let rate = match (entry.requests_per_second, entry.burst) {
            (Some(per_second), None) => Some(Rate::new(per_second)),
            (Some(per_second), Some(burst)) => Some(Rate { per_second, burst: burst.into_inner() }),
            (None, None) => None,
            (None, Some(burst)) => {
                let wrong = format!("tenant `{name}` has a `burst` and no `requests_per_second`");
                return Err((burst.span().start, wrong));
            }
        };
        let (weight, requests, waiting) = (entry.weight, entry.requests, entry.waiting);
        let limits = Limits { weight, requests, waiting, rate };
        if found.insert(name.clone(), limits).is_some() {
            return Err((at, format!("tenant `{name}` is there twice")));
        }
    }
    Ok(Listed::new(found.into_iter().collect(), known))
}

/// The tenant that a token or a certificate names.
///
/// # Errors
/// One that is not listed, as that is likely a mistake.
pub(super) fn named(
    name: Option<&Spanned<String>>,
    listed: Option<&Listed>,
) -> Result<Option<Arc<Tenant>>, Misplaced> {
    let Some(name) = name else { return Ok(listed.map(|listed| listed.default_tenant().clone())) };
    let found = listed.and_then(|listed| listed.listed(name.get_ref()));
    let unknown = || (name.span().start, format!("there is no tenant `{}`", name.get_ref().escape_debug()));
    found.cloned().map(Some).ok_or_else(unknown)
}

/// What is wrong with a name, if anything is.
pub(super) fn wrong_name(name: &str) -> Option<String> {
    let chars = name.chars().count();
    let fits = (1..=NAME_CHARS).contains(&chars) && !name.chars().any(char::is_control);
    (!fits).then(|| format!("a tenant's name has from 1 to {NAME_CHARS} characters; found {chars}"))
}

fn name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Spanned<String>, D::Error> {
    let name = Spanned::<String>::deserialize(deserializer)?;
    match wrong_name(name.get_ref()) {
        Some(wrong) => Err(D::Error::custom(wrong)),
        None if name.get_ref() != OTHERS && name.get_ref().contains('*') => {
            Err(D::Error::custom("tenants have no patterns: a name, or `*` for each that is not listed"))
        }
        None => Ok(name),
    }
}

fn one() -> f64 {
    1.0
}

fn weight<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let weight = f64::deserialize(deserializer)?;
    if WEIGHTS.contains(&weight) {
        return Ok(weight);
    }
    let (least, most) = (WEIGHTS.start(), WEIGHTS.end());
    Err(D::Error::custom(format_args!("found {weight}, expected a weight from {least} to {most}")))
}

fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
    match i64::deserialize(deserializer)? {
        found @ 1.. => Ok(usize::try_from(found).ok()),
        found => {
            Err(D::Error::custom(format_args!("found {found}, expected a number of requests from 1 on")))
        }
    }
}

fn rate<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    let found = f64::deserialize(deserializer)?;
    if found.is_finite() && found >= 0.001 {
        return Ok(Some(found));
    }
    Err(D::Error::custom(format_args!("found {found}, expected requests per second, at least 0.001")))
}

fn burst<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Spanned<f64>>, D::Error> {
    let found = Spanned::<f64>::deserialize(deserializer)?;
    if found.get_ref().is_finite() && *found.get_ref() >= 1.0 {
        return Ok(Some(found));
    }
    Err(D::Error::custom(format_args!("found {}, expected requests at once, at least 1", found.get_ref())))
}
