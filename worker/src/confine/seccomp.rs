//! System calls: those the policy lists, and the process ends at any other.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter_all_threads,
};

use super::policy::{Condition, SystemCalls};
use super::{Layer, PolicyError};

mod names;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Applies the policy to every thread. One filter cannot answer in three ways, so there are two; the kernel takes the
/// stricter answer.
pub(super) fn restrict(policy: &SystemCalls) -> Layer {
    let (allowed, refused) = tables(policy).map_err(|error| error.to_string())?;
    let calls = allowed.len() - refused.values().map(Vec::len).sum::<usize>();
    for (errno, list) in refused {
        let rules = list.into_iter().map(|call| (call, Vec::new())).collect();
        apply(rules, SeccompAction::Allow, SeccompAction::Errno(errno.cast_unsigned()))?;
    }
    apply(allowed, SeccompAction::KillProcess, SeccompAction::Allow)?;
    Ok(format!("{calls} system calls allowed"))
}

/// Refuses what a settled process has no use for, and ends it at any later attempt to make memory executable.
pub(super) fn settle(policy: &SystemCalls) -> Layer {
    for (errno, list) in numbers(&policy.refuse_once_settled).map_err(|error| error.to_string())? {
        let rules = list.into_iter().map(|call| (call, Vec::new())).collect();
        apply(rules, SeccompAction::Allow, SeccompAction::Errno(errno.cast_unsigned()))?;
    }
    forbid_new_code()
}

fn forbid_new_code() -> Layer {
    let executable = |call: &str| {
        let condition = Condition {
            call: call.to_owned(),
            argument: 2,
            mask: Some(vec!["PROT_EXEC".to_owned()]),
            equals: vec!["PROT_EXEC".to_owned()],
        };
        Ok::<_, PolicyError>((names::call(call)?, vec![rule(&condition)?]))
    };
    let rules: Result<Rules, PolicyError> = ["mmap", "mprotect"].into_iter().map(executable).collect();
    let rules = rules.map_err(|error| error.to_string())?;
    apply(rules, SeccompAction::Allow, SeccompAction::KillProcess)?;
    Ok(String::new())
}

fn apply(rules: Rules, otherwise: SeccompAction, matched: SeccompAction) -> Result<(), String> {
    let arch: TargetArch =
        std::env::consts::ARCH.try_into().map_err(|_| "no filters for this architecture".to_owned())?;
    let program: Result<BpfProgram, _> =
        SeccompFilter::new(rules, otherwise, matched, arch).and_then(TryInto::try_into);
    let program = program.map_err(|error| error.to_string())?;
    apply_filter_all_threads(&program).map_err(|error| error.to_string())
}

/// The calls that do not end the process (refused ones included), and the refused ones by errno.
fn tables(policy: &SystemCalls) -> Result<(Rules, BTreeMap<i32, Vec<i64>>), PolicyError> {
    let mut allowed = Rules::new();
    for name in &policy.allow {
        if let Some(call) = names::call_here(name)? {
            allowed.insert(call, Vec::new());
        }
    }
    for condition in &policy.allow_when {
        if let Some(call) = names::call_here(&condition.call)? {
            allowed.entry(call).or_default().push(rule(condition)?);
        }
    }
    let refused = numbers(&policy.refuse)?;
    allowed.extend(refused.values().flatten().map(|call| (*call, Vec::new())));
    Ok((allowed, refused))
}

/// The calls of this architecture by errno.
fn numbers(refused: &BTreeMap<String, Vec<String>>) -> Result<BTreeMap<i32, Vec<i64>>, PolicyError> {
    let mut found = BTreeMap::new();
    for (errno, calls) in refused {
        let list: &mut Vec<i64> = found.entry(names::errno(errno)?).or_default();
        for name in calls {
            list.extend(names::call_here(name)?);
        }
    }
    Ok(found)
}

fn rule(condition: &Condition) -> Result<SeccompRule, PolicyError> {
    let union = |list: &[String]| list.iter().try_fold(0, |bits, name| Ok(bits | names::constant(name)?));
    let value = union(&condition.equals)?;
    let operator = match &condition.mask {
        Some(mask) => SeccompCmpOp::MaskedEq(union(mask)?),
        None => SeccompCmpOp::Eq,
    };
    // Pointers and flag words of the calls in question are compared whole.
    let invalid = |_| PolicyError::Unknown { kind: "condition", name: condition.call.clone() };
    let compared = SeccompCondition::new(condition.argument, SeccompCmpArgLen::Qword, operator, value)
        .map_err(invalid)?;
    SeccompRule::new(vec![compared]).map_err(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::confine::Policy;
    use crate::messages::handshake::Role;

    #[test]
    fn every_role_has_a_policy_that_makes_sense() {
        for role in [Role::Compile, Role::Runtime] {
            let policy = Policy::of(role).unwrap();
            let (allowed, refused) = tables(&policy.seccomp).unwrap();
            for forbidden in [libc::SYS_socket, libc::SYS_connect, libc::SYS_execve, libc::SYS_ptrace] {
                assert!(!allowed.contains_key(&forbidden), "{role} allows call {forbidden}");
            }
            for forbidden in [libc::SYS_kill, libc::SYS_bpf, libc::SYS_io_uring_setup, libc::SYS_mount] {
                assert!(!allowed.contains_key(&forbidden), "{role} allows call {forbidden}");
            }
            assert!(refused.values().flatten().all(|call| allowed[call].is_empty()));
            let settled = numbers(&policy.seccomp.refuse_once_settled).unwrap();
            assert_eq!(settled.values().flatten().count() > 0, matches!(role, Role::Runtime));
            assert!(
                settled.values().flatten().all(|call| allowed.contains_key(call)),
                "{role}: refused twice"
            );
            assert!(policy.seccomp.allow_when.iter().any(|condition| condition.call == "mmap"));
        }
    }
}
