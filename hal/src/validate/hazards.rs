//! Hazards within a recording: commands of one epoch that touch the same bytes, and bindings of one command.

use std::collections::BTreeMap;
use std::ops::Range;

use super::Violation;
use crate::{Access, Binding, Command};

/// One command's use of some bytes.
struct Touch {
    command: usize,
    binding: usize,
    bytes: Range<u64>,
    access: Access,
}

/// Checks `commands` where `place` says what a binding stands for: a key equal for what can overlap, and the offset
/// of the binding's source in it.
pub(super) fn check<K: Ord>(
    commands: &[Command],
    place: impl Fn(&Binding) -> Option<(K, u64)>,
) -> Result<(), Violation> {
    let mut epoch: BTreeMap<K, Vec<Touch>> = BTreeMap::new();
    for (command, recorded) in commands.iter().enumerate() {
        if matches!(recorded, Command::Barrier) {
            epoch.clear();
            continue;
        }
        for (binding, bound) in bindings(recorded).into_iter().enumerate() {
            let Some((key, offset)) = place(bound).filter(|_| bound.len_bytes > 0) else { continue };
            let start = offset.saturating_add(bound.offset_bytes);
            let bytes = start..start.saturating_add(bound.len_bytes);
            let touch = Touch { command, binding, bytes, access: bound.access };
            let others = epoch.entry(key).or_default();
            others.iter().try_for_each(|other| compare(other, &touch))?;
            others.push(touch);
        }
    }
    Ok(())
}

/// The bindings of a command that runs; none when it runs nothing.
pub(super) fn bindings(command: &Command) -> Vec<&Binding> {
    match command {
        Command::Dispatch(dispatch) if dispatch.grid.contains(&0) => vec![],
        Command::Dispatch(dispatch) => dispatch.bindings.iter().collect(),
        Command::Copy { src, dst } => vec![src, dst],
        Command::Fill { dst, .. } => vec![dst],
        Command::Barrier => vec![],
    }
}

fn compare(first: &Touch, second: &Touch) -> Result<(), Violation> {
    let known = first.access != Access::Unknown && second.access != Access::Unknown;
    let apart = first.bytes.end <= second.bytes.start || second.bytes.end <= first.bytes.start;
    if apart || !known || !(first.access.writes() || second.access.writes()) {
        return Ok(());
    }
    if first.command != second.command {
        return Err(Violation::MissingBarrier { first: first.command, second: second.command });
    }
    // A kernel that works in place names the same bytes twice, element by element; shifted, workgroups would race.
    if first.bytes == second.bytes {
        return Ok(());
    }
    Err(Violation::AliasedBindings { command: first.command, first: first.binding, second: second.binding })
}
