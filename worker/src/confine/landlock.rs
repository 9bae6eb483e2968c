//! The file system, TCP and signals: everything refused but what the policy lists.

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, LandlockStatus, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};

use super::Layer;
use super::policy::Files;

/// The newest rules this code knows; an older kernel enforces those it has.
const NEWEST: ABI = ABI::V6;

/// Restricts this thread and those it starts.
pub(super) fn restrict(files: &Files) -> Layer {
    let status = build(files).map_err(|error| error.to_string())?;
    match (status.ruleset, status.landlock) {
        (RulesetStatus::NotEnforced, LandlockStatus::NotEnabled) => Err("not enabled at boot".to_owned()),
        (RulesetStatus::NotEnforced, _) => Err("not part of this kernel".to_owned()),
        (_, LandlockStatus::Available { effective_abi, kernel_abi }) => {
            Ok(format!("ABI {}", kernel_abi.unwrap_or(effective_abi as i32)))
        }
        (_, other) => Ok(format!("{other:?}")),
    }
}

fn build(files: &Files) -> Result<landlock::RestrictionStatus, RulesetError> {
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?
        // Paths that are not there are skipped: no rule, no access.
        .add_rules(path_beneath_rules(&files.read, AccessFs::from_read(NEWEST) & !AccessFs::Execute))?
        .restrict_self()
}
