//! Instance groups: how many executions there are at once, and in which processes.

use std::collections::BTreeMap;

use ired_proto::inference::ModelConfig;
use ired_worker::Cores;

use crate::engine::{DeviceGroup, InstanceGroup};
use crate::error::Error;

/// What each process of a model has: one for each device group that its configuration names, and one for all its groups
/// that name none.
///
/// # Errors
/// [`Error::Invalid`] for a `host_policy` that is none of `device_groups`.
pub fn instance_groups(
    name: &str,
    config: Option<&ModelConfig>,
    device_groups: &BTreeMap<String, Cores>,
) -> Result<Vec<InstanceGroup>, Error> {
    let counts = config.map(counts).unwrap_or_default();
    if counts.is_empty() {
        return Ok(vec![InstanceGroup::default()]);
    }
    let group = |(policy, count): (&str, usize)| {
        let device_group = match policy {
            "" => None,
            policy => Some(find(device_groups, policy).map_err(|found| {
                Error::invalid(format!(
                    "the configuration of `{name}`: `instance_group.host_policy` is `{}`; {found}",
                    policy.escape_debug()
                ))
            })?),
        };
        Ok(InstanceGroup { device_group, count: Some(count) })
    };
    counts.into_iter().map(group).collect()
}

/// Executions at once that the configuration asks for.
pub(super) fn instances(config: &ModelConfig) -> Option<usize> {
    Some(counts(config).into_iter().map(|(_, count)| count).sum()).filter(|&count: &usize| count > 0)
}

/// Executions at once for each `host_policy`, in the order in which they are first named; nothing where it is not said.
fn counts(config: &ModelConfig) -> Vec<(&str, usize)> {
    // A passive group has instances that get no requests.
    let groups = || config.instance_group.iter().filter(|group| !group.passive);
    // As the format has it: a number that is not given is one. Where nothing is said of cores, it may be any.
    let least = usize::from(groups().any(|group| !group.host_policy.is_empty()));
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for group in groups() {
        let count = usize::try_from(group.count).unwrap_or(0).max(least);
        match counts.iter_mut().find(|(policy, _)| *policy == group.host_policy) {
            Some((_, sum)) => *sum = sum.saturating_add(count),
            None => counts.push((&group.host_policy, count)),
        }
    }
    counts.retain(|(_, count)| *count > 0);
    counts
}

/// The device group of that name, or which there are.
fn find(device_groups: &BTreeMap<String, Cores>, name: &str) -> Result<DeviceGroup, String> {
    match device_groups.get(name) {
        Some(cores) => Ok(DeviceGroup { name: name.to_owned(), cores: cores.clone() }),
        None if device_groups.is_empty() => Err("the settings have no `device_groups`".to_owned()),
        None => {
            let names: Vec<String> = device_groups.keys().map(|name| format!("`{name}`")).collect();
            Err(format!("the settings have device groups {}", names.join(", ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::from_text;
    use super::*;

    fn groups(text: &str) -> Result<Vec<(String, Option<usize>)>, String> {
        let known = [("numa0", "0-3"), ("numa1", "4-7")];
        let known = known.map(|(name, cores)| (name.to_owned(), cores.parse().unwrap()));
        let config = from_text(text).unwrap();
        let found = instance_groups("m", Some(&config), &BTreeMap::from(known));
        let place = |group: Option<DeviceGroup>| match group {
            Some(DeviceGroup { name, cores }) => format!("{name} {cores}"),
            None => "all".to_owned(),
        };
        let found = found.map(|groups| {
            let counts: Vec<usize> = groups.iter().filter_map(|group| group.count).collect();
            assert_eq!(instances(&config).unwrap_or(0), counts.iter().sum::<usize>(), "{groups:?}");
            groups.into_iter().map(|group| (place(group.device_group), group.count)).collect()
        });
        found.map_err(|error| error.to_string())
    }

    #[test]
    fn there_is_a_process_for_each_device_group_and_one_for_the_rest() {
        let expect = |text: &str, expected: &[(&str, Option<usize>)]| {
            let expected = expected.iter().map(|(place, count)| ((*place).to_owned(), *count)).collect();
            assert_eq!(groups(text), Ok(expected), "{text}");
        };
        expect("", &[("all", None)]);
        expect("instance_group { kind: KIND_CPU }", &[("all", None)]);
        expect("instance_group [ { count: 2 }, { passive: true count: 3 } ]", &[("all", Some(2))]);
        expect("instance_group [ { count: 2 }, { count: 3 } ]", &[("all", Some(5))]);
        expect(
            "instance_group [ { host_policy: 'numa1' count: 2 }, { host_policy: 'numa0' }, { count: 4 }, \
             { host_policy: 'numa1' }, { passive: true host_policy: 'other' } ]",
            &[("numa1 4-7", Some(3)), ("numa0 0-3", Some(1)), ("all", Some(4))],
        );
    }

    #[test]
    fn a_device_group_that_there_is_not_is_named_with_those_that_there_are() {
        let error = groups("instance_group { host_policy: 'numa2' }").unwrap_err();
        assert_eq!(
            error,
            "the configuration of `m`: `instance_group.host_policy` is `numa2`; the settings have device groups `numa0`, \
             `numa1`"
        );
        let config = from_text("instance_group { host_policy: 'numa2' }").unwrap();
        let error = instance_groups("m", Some(&config), &BTreeMap::new()).unwrap_err().to_string();
        assert!(error.ends_with("is `numa2`; the settings have no `device_groups`"), "{error}");
    }
}
