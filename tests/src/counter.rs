//! A model that counts, written here byte by byte: what it gives is what it is given the next time.

use std::path::Path;

use anyhow::Result;

/// ONNX's numbers for element types.
const INT64: u64 = 7;
const BOOL: u64 = 9;

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

/// An ONNX model of opset 18; the numbers are those of the fields in `onnx.proto`.
fn model() -> Vec<u8> {
    let one = [number(1, 1), number(2, INT64), bytes(8, b"one"), bytes(9, &1i64.to_le_bytes())].concat();
    let axis = [bytes(1, b"axis"), number(3, 0), number(20, 2)].concat();
    let graph = [
        node("Add", &["n", "one"], "next", &[]),
        node("GreaterOrEqual", &["next", "limit"], "is_last", &[]),
        node("Concat", &["past", "next"], "history", &bytes(5, &axis)),
        bytes(2, b"counter"),
        bytes(5, &one),
        tensor(11, "n", INT64, &number(1, 1)),
        tensor(11, "limit", INT64, &number(1, 1)),
        tensor(11, "past", INT64, &bytes(2, b"P")),
        tensor(12, "next", INT64, &number(1, 1)),
        tensor(12, "is_last", BOOL, &number(1, 1)),
        tensor(12, "history", INT64, &bytes(2, b"H")),
    ];
    [number(1, 9), bytes(7, &graph.concat()), bytes(8, &number(2, 18))].concat()
}

fn node(operator: &str, inputs: &[&str], output: &str, attribute: &[u8]) -> Vec<u8> {
    let inputs: Vec<u8> = inputs.iter().flat_map(|input| bytes(1, input.as_bytes())).collect();
    let output = bytes(2, output.as_bytes());
    bytes(1, &[&inputs, &*output, &bytes(4, operator.as_bytes()), attribute].concat())
}

/// An input or output of the graph, of one dimension.
fn tensor(field: u64, name: &str, element: u64, dimension: &[u8]) -> Vec<u8> {
    let shape = bytes(1, dimension);
    let of_tensor = bytes(1, &[number(1, element), bytes(2, &shape)].concat());
    bytes(field, &[bytes(1, name.as_bytes()), bytes(2, &of_tensor)].concat())
}

/// A field that is a number.
fn number(field: u64, value: u64) -> Vec<u8> {
    [varint(field << 3), varint(value)].concat()
}

/// A field that is a text, bytes or a message.
fn bytes(field: u64, value: &[u8]) -> Vec<u8> {
    [&varint(field << 3 | 2), &*varint(value.len() as u64), value].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut written = Vec::new();
    while value >= 0x80 {
        written.push(value as u8 | 0x80);
        value >>= 7;
    }
    written.push(value as u8);
    written
}
