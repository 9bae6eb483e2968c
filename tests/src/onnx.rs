//! ONNX models that are written byte by byte; the numbers are those of the fields in `onnx.proto`.

/// ONNX's numbers for element types.
pub const FLOAT: u64 = 1;
pub const INT64: u64 = 7;
pub const BOOL: u64 = 9;

/// A model of opset 18.
pub fn model_of(graph: &[u8]) -> Vec<u8> {
    [number(1, 9), bytes(7, graph), bytes(8, &number(2, 18))].concat()
}

/// A constant of the graph.
pub fn constant(name: &str, sizes: &[usize], values: &[f32]) -> Vec<u8> {
    let sizes: Vec<u8> = sizes.iter().flat_map(|&size| number(1, size as u64)).collect();
    let values: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    bytes(5, &[&sizes, &*number(2, FLOAT), &bytes(8, name.as_bytes()), &bytes(9, &values)].concat())
}

/// A node of the graph, with its attributes.
pub fn node(operator: &str, inputs: &[&str], output: &str, attribute: &[u8]) -> Vec<u8> {
    let inputs: Vec<u8> = inputs.iter().flat_map(|input| bytes(1, input.as_bytes())).collect();
    let output = bytes(2, output.as_bytes());
    bytes(1, &[&inputs, &*output, &bytes(4, operator.as_bytes()), attribute].concat())
}

/// An input (field 11) or output (12) of the graph, of these dimensions: `number(1, size)` or `bytes(2, symbol)`.
pub fn tensor(field: u64, name: &str, element: u64, dimensions: &[&[u8]]) -> Vec<u8> {
    let shape: Vec<u8> = dimensions.iter().flat_map(|dimension| bytes(1, dimension)).collect();
    let of_tensor = bytes(1, &[number(1, element), bytes(2, &shape)].concat());
    bytes(field, &[bytes(1, name.as_bytes()), bytes(2, &of_tensor)].concat())
}

/// A field that is a number.
pub fn number(field: u64, value: u64) -> Vec<u8> {
    [varint(field << 3), varint(value)].concat()
}

/// A field that is a text, bytes or a message.
pub fn bytes(field: u64, value: &[u8]) -> Vec<u8> {
    [&varint(field << 3 | 2), &*varint(value.len() as u64), value].concat()
}

/// As protobuf writes numbers.
pub fn varint(mut value: u64) -> Vec<u8> {
    let mut written = Vec::new();
    while value >= 0x80 {
        written.push(value as u8 | 0x80);
        value >>= 7;
    }
    written.push(value as u8);
    written
}
