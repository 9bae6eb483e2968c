//! Which versions of a model are to answer: what its configuration says, or the settings, and what has a label.

use std::collections::BTreeSet;

use ired_proto::inference::ModelConfig;
use ired_proto::inference::model_version_policy::PolicyChoice;

use crate::config::Settings;

/// The versions that are to answer.
pub(super) struct Choice {
    policy: Policy,
    labelled: BTreeSet<u64>,
}

enum Policy {
    Newest(usize),
    These(BTreeSet<u64>),
}

impl Choice {
    pub(super) fn new(config: Option<&ModelConfig>, settings: &Settings, labelled: BTreeSet<u64>) -> Self {
        let newest = |count: usize| Policy::Newest(if count == 0 { usize::MAX } else { count });
        let choice = config.and_then(|config| config.version_policy.as_ref()?.policy_choice.as_ref());
        let policy = match choice {
            None => newest(settings.versions_served),
            Some(PolicyChoice::All(_)) => newest(0),
            // As the format has it: a number that is not given is one.
            Some(PolicyChoice::Latest(latest)) => newest(latest.num_versions.max(1) as usize),
            Some(PolicyChoice::Specific(these)) => {
                Policy::These(these.versions.iter().filter_map(|&version| version.try_into().ok()).collect())
            }
        };
        Self { policy, labelled }
    }

    /// Whether a version is one of them where these newer ones are.
    pub(super) fn wants(&self, version: u64, newer: &BTreeSet<u64>) -> bool {
        let by_policy = match &self.policy {
            Policy::Newest(count) => newer.len() < *count,
            Policy::These(these) => these.contains(&version),
        };
        by_policy || self.labelled.contains(&version)
    }

    /// Those of `versions` that are to answer.
    pub(super) fn of(&self, versions: &BTreeSet<u64>) -> BTreeSet<u64> {
        let mut chosen = BTreeSet::new();
        for &version in versions.iter().rev() {
            if self.wants(version, &chosen) {
                chosen.insert(version);
            }
        }
        chosen
    }

    /// Versions that the configuration names and that are none of those that there are.
    pub(super) fn missing(&self, there: &BTreeSet<u64>) -> BTreeSet<u64> {
        match &self.policy {
            Policy::Newest(_) => BTreeSet::new(),
            Policy::These(these) => these.difference(there).copied().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use ired_proto::inference::ModelVersionPolicy;
    use ired_proto::inference::model_version_policy::{All, Latest, Specific};

    use super::*;

    #[test]
    fn the_configuration_wins_over_the_settings_and_labels_add_to_either() {
        let there = BTreeSet::from([1, 2, 3, 4]);
        let chosen = |policy: Option<PolicyChoice>, labelled: &[u64]| {
            let version_policy = policy.map(|policy| ModelVersionPolicy { policy_choice: Some(policy) });
            let config = ModelConfig { version_policy, ..Default::default() };
            let choice = Choice::new(Some(&config), &Settings::default(), labelled.iter().copied().collect());
            (choice.of(&there).into_iter().collect::<Vec<_>>(), choice.missing(&there).len())
        };
        let latest = |num_versions| Some(PolicyChoice::Latest(Latest { num_versions }));
        let specific =
            |versions: &[i64]| Some(PolicyChoice::Specific(Specific { versions: versions.into() }));
        assert_eq!(chosen(None, &[]), (vec![4], 0));
        assert_eq!(chosen(latest(0), &[]), (vec![4], 0));
        assert_eq!(chosen(latest(2), &[]), (vec![3, 4], 0));
        assert_eq!(chosen(latest(2), &[4, 1]), (vec![1, 3, 4], 0));
        assert_eq!(chosen(Some(PolicyChoice::All(All {})), &[]), (vec![1, 2, 3, 4], 0));
        assert_eq!(chosen(specific(&[1, 3, 9, -1]), &[2]), (vec![1, 2, 3], 1));
    }
}
