//! Several registers moved at once, one after the other.

use crate::errors::Diagnostic;

/// The moves `(from, to)` in an order in which none destroys what another still reads; `spare` gives a register to
/// open a circle with.
pub(super) fn sequence(
    mut moves: Vec<(u16, u16)>,
    mut spare: impl FnMut() -> Result<u16, Diagnostic>,
) -> Result<Vec<(u16, u16)>, Diagnostic> {
    moves.retain(|(from, to)| from != to);
    let mut ordered = Vec::with_capacity(moves.len());
    while !moves.is_empty() {
        let free = moves.iter().position(|(_, to)| moves.iter().all(|(from, _)| from != to));
        if let Some(at) = free {
            ordered.push(moves.swap_remove(at));
            continue;
        }
        // Only circles are left.
        let (spare, (kept, _)) = (spare()?, moves[0]);
        ordered.push((kept, spare));
        moves.iter_mut().filter(|(from, _)| *from == kept).for_each(|(from, _)| *from = spare);
    }
    Ok(ordered)
}

#[cfg(test)]
mod tests {
    use super::sequence;

    /// What registers hold after `moves`, when at first each holds its own number.
    fn run(moves: Vec<(u16, u16)>) -> Vec<u16> {
        let mut next = 8;
        let spare = || {
            next += 1;
            Ok(next - 1)
        };
        let ordered = sequence(moves, spare).unwrap_or_else(|e| panic!("{e}"));
        let mut held: Vec<u16> = (0..16).collect();
        for (from, to) in ordered {
            held[usize::from(to)] = held[usize::from(from)];
        }
        held.truncate(6);
        held
    }

    #[test]
    fn moves_happen_all_at_once() {
        assert_eq!(run(vec![]), [0, 1, 2, 3, 4, 5]);
        assert_eq!(run(vec![(1, 1), (2, 3)]), [0, 1, 2, 2, 4, 5]);
        // A chain, against its order.
        assert_eq!(run(vec![(0, 1), (1, 2), (2, 3)]), [0, 0, 1, 2, 4, 5]);
        // A swap, a circle of three beside it, and a copy out of a circle.
        assert_eq!(run(vec![(0, 1), (1, 0)]), [1, 0, 2, 3, 4, 5]);
        assert_eq!(run(vec![(0, 1), (1, 0), (2, 3), (3, 4), (4, 2), (3, 5)]), [1, 0, 4, 2, 3, 3]);
    }
}
