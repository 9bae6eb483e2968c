//! Device groups: cores with names, which models' configurations have their instances run on.

use std::collections::BTreeMap;

use ired_worker::Cores;

/// The setting, a table whose names are the user's.
pub(super) const TABLE: &str = "device_groups";

/// What their names are.
pub(super) const NAMES: &str = "names of device groups have letters, digits, `-` and `_` only";

/// Whether a setting is a device group.
pub(super) fn is_one(setting: &str) -> bool {
    let name = setting.strip_prefix(TABLE).and_then(|rest| rest.strip_prefix('.'));
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    name.is_some_and(|name| !name.is_empty() && name.chars().all(is_allowed))
}

/// Settings with cores that this process may not use, and what is wrong with each.
pub(super) fn beyond(groups: &BTreeMap<String, Cores>) -> Vec<(String, String)> {
    // Where the system does not tell, each process finds out when it is started.
    let Ok(allowed) = Cores::allowed() else { return Vec::new() };
    let problem = |(name, cores): (&String, &Cores)| {
        let missing = cores.missing_in(&allowed)?;
        let problem = format!("found `{cores}`; of these {missing} may not be used here, only {allowed} may");
        Some((format!("{TABLE}.{name}"), problem))
    };
    groups.iter().filter_map(problem).collect()
}
