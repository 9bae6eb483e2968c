//! The debug section: what profiles say of dispatches.

use ired_module::code::ArithOp;
use ired_module::notes::{DispatchNote, DispatchNotes, Expression, Size, Term};
use proptest::prelude::*;

fn expression(terms: &[Term]) -> Expression {
    Expression(terms.to_vec())
}

/// `2 * n * (n floordiv 3)` operations, as many bytes as data decides.
fn notes() -> DispatchNotes {
    let third = expression(&[Term::Size(1), Term::Value(3), Term::Apply(ArithOp::FloorDiv)]);
    let product =
        [Term::Value(2), Term::Size(1), Term::Apply(ArithOp::Mul), Term::Size(2), Term::Apply(ArithOp::Mul)];
    DispatchNotes {
        sizes: vec![Size::Unknown, Size::Input { input: 1, axis: 0 }, Size::Expression(third)],
        notes: vec![DispatchNote {
            function: 0,
            instruction: 7,
            nodes: "a (MatMul), b (Add)".to_owned(),
            problem: "product f32".to_owned(),
            dtype: "f32".to_owned(),
            shape: vec![expression(&[Term::Size(1)]), expression(&[Term::Size(0)])],
            operations: expression(&product),
            bytes: expression(&[Term::Size(0)]),
        }],
    }
}

#[test]
fn notes_come_back_and_know_what_the_inputs_say() {
    let notes = DispatchNotes::decode(&notes().encode()).unwrap();
    assert_eq!(notes, self::notes());
    let known = &notes.at(&[vec![], vec![10, 4]])[0];
    assert_eq!((known.instruction, known.nodes, known.problem), (7, "a (MatMul), b (Add)", "product f32"));
    assert_eq!((known.operations, known.bytes, known.result.as_str()), (Some(60), None, "f32[10, ?]"));
    // Too large for a number, or without the input: not known.
    assert_eq!(notes.at(&[vec![], vec![u64::MAX, 4]])[0].operations, None);
    assert_eq!(notes.at(&[])[0].operations, None);
}

#[test]
fn no_notes_are_no_bytes() {
    assert!(DispatchNotes::default().encode().is_empty());
    assert_eq!(DispatchNotes::decode(&[]), Some(DispatchNotes::default()));
}

#[test]
fn what_is_cut_short_or_goes_on_is_refused() {
    let bytes = notes().encode();
    for end in 1..bytes.len() {
        assert_eq!(DispatchNotes::decode(&bytes[..end]), None, "{end}");
    }
    assert_eq!(DispatchNotes::decode(&[&bytes[..], &[0]].concat()), None);
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(
        bytes in prop::collection::vec(any::<u8>(), 0..64),
        at in any::<prop::sample::Index>(),
        value: u8,
    ) {
        let mut damaged = notes().encode();
        let at = at.index(damaged.len());
        damaged[at] = value;
        for bytes in [bytes, damaged] {
            if let Some(notes) = DispatchNotes::decode(&bytes) {
                let _ = notes.at(&[vec![3, 4], vec![5]]);
            }
        }
    }
}
