//! Replaces nodes by cheaper ones that compute the same: identities, movement that cancels, arithmetic on what
//! is really one number. Rules never change a result's bits, except that none of them keeps NaN payloads.

mod arithmetic;
mod movement;

use ired_graph::{Graph, NodeId};

use super::PassError;
use super::rewrite::{Rewriter, Rewritten, rewrite};

/// The rules, in the order they are tried. Each looks at one node and what makes its operands.
const RULES: &[fn(&mut Rewriter<'_>, NodeId) -> Rewritten] = &[
    movement::cast,
    movement::transpose,
    movement::reshape,
    movement::broadcast,
    movement::slice,
    movement::concat,
    movement::pad,
    movement::pad_into_window,
    movement::drop_unit_axes,
    arithmetic::binary,
    arithmetic::unary,
    arithmetic::select,
    arithmetic::hoist_broadcast,
];

/// Rules feed each other; real models settle in three or four sweeps, and a graph made to need more is left as it is.
const MAX_SWEEPS: usize = 16;

pub(super) fn simplify(graph: &mut Graph) -> Result<(), PassError> {
    for _ in 0..MAX_SWEEPS {
        let changed = rewrite(graph, &mut |rewriter, id| {
            for rule in RULES {
                if let Some(values) = rule(rewriter, id)? {
                    return Ok(Some(values));
                }
            }
            Ok(None)
        })?;
        if !changed {
            break;
        }
    }
    Ok(())
}
