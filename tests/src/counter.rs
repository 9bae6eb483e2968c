//! A model that counts: what it gives is what it is given the next time.

use std::path::Path;

use anyhow::Result;

use crate::onnx::{BOOL, INT64, bytes, model_of, node, number, tensor};

/// Writes the model and its configuration into a folder of a model repository: `next` is `n` and 1 more, until it is `limit`;
/// `history` has them all, and is answered where that is wanted.
pub fn write(folder: &Path, with_history: bool) -> Result<()> {
    std::fs::create_dir_all(folder.join("1"))?;
    std::fs::write(folder.join("1/model.onnx"), model())?;
    let history = if with_history { ", { name: 'history' }" } else { "" };
    let config = format!(
        "sequence_batching {{
           iterative_sequence: true
           state [
             {{ input_name: 'n' output_name: 'next' data_type: TYPE_INT64 dims: [ 1 ] }},
             {{ input_name: 'past' output_name: 'history' data_type: TYPE_INT64 dims: [ -1 ]
                initial_state {{ name: 'none' data_type: TYPE_INT64 dims: [ 0 ] zero_data: true }} }}
           ]
         }}
         model_transaction_policy {{ decoupled: true }}
         input [ {{ name: 'n' }}, {{ name: 'limit' }} ]
         output [ {{ name: 'next' }}{history} ]
         parameters {{ key: 'ired.last' value {{ string_value: 'is_last' }} }}"
    );
    Ok(std::fs::write(folder.join("config.pbtxt"), config)?)
}

fn model() -> Vec<u8> {
    let one = [number(1, 1), number(2, INT64), bytes(8, b"one"), bytes(9, &1i64.to_le_bytes())].concat();
    let axis = [bytes(1, b"axis"), number(3, 0), number(20, 2)].concat();
    let graph = [
        node("Add", &["n", "one"], "next", &[]),
        node("GreaterOrEqual", &["next", "limit"], "is_last", &[]),
        node("Concat", &["past", "next"], "history", &bytes(5, &axis)),
        bytes(2, b"counter"),
        bytes(5, &one),
        tensor(11, "n", INT64, &[&number(1, 1)]),
        tensor(11, "limit", INT64, &[&number(1, 1)]),
        tensor(11, "past", INT64, &[&bytes(2, b"P")]),
        tensor(12, "next", INT64, &[&number(1, 1)]),
        tensor(12, "is_last", BOOL, &[&number(1, 1)]),
        tensor(12, "history", INT64, &[&bytes(2, b"H")]),
    ];
    model_of(&graph.concat())
}
