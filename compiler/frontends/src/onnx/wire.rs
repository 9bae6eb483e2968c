//! Looks over a protobuf buffer before it is decoded: whole, not nested too deep, and not a small file that decodes
//! into a huge structure (an empty message is two bytes on the wire and hundreds in memory). Allocates nothing.

use std::mem::size_of;

use super::proto;

/// Why a buffer is not decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    #[error("the file ends inside {} that begins before byte {offset}", article(message))]
    Truncated { message: &'static str, offset: usize },
    #[error("malformed field in {} at byte {offset}", article(message))]
    Malformed { message: &'static str, offset: usize },
    #[error("messages nest deeper than {limit} at byte {offset}")]
    TooDeep { limit: usize, offset: usize },
    #[error("{file_bytes} bytes would decode to more than {limit_bytes}")]
    TooLarge { file_bytes: usize, limit_bytes: u64 },
}

fn article(message: &str) -> String {
    let article = if message.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {message}")
}

/// As deep as the decoder itself goes; some thirty nested graphs.
const DEPTH: usize = 96;

/// What any model may decode to, however small its file.
const DECODED_BYTES: u64 = 256 << 20;

/// What a model may decode to for each byte of its file.
const DECODED_BYTES_PER_BYTE: u64 = 4;

/// Checks that `model`, a `ModelProto`, decodes in bounded memory and depth.
///
/// # Errors
/// [`WireError`], with the byte it was found at.
pub(crate) fn check(model: &[u8]) -> Result<(), WireError> {
    let limit_bytes = DECODED_BYTES + DECODED_BYTES_PER_BYTE * model.len() as u64;
    let mut scan = Scan { data: model, decoded_bytes: 0, limit_bytes };
    scan.message(&MODEL, 0, model.len(), 0)
}

/// The nesting of the messages in `onnx.proto`.
struct Message {
    name: &'static str,
    bytes: usize,
    fields: &'static [(u32, Field)],
}

enum Field {
    Message(&'static Message),
    /// Copied on decoding.
    Text,
    /// A slice of the file.
    Blob,
    /// Numbers this wide, in a run of varints or of fixed width.
    Varints(usize),
    Fixed(usize),
}

use Field::{Blob, Fixed, Text, Varints};

static MODEL: Message = Message {
    name: "model",
    bytes: size_of::<proto::ModelProto>(),
    fields: &[
        (2, Text),
        (3, Text),
        (7, Field::Message(&GRAPH)),
        (8, Field::Message(&OPERATOR_SET)),
        (25, Field::Message(&FUNCTION)),
    ],
};
static OPERATOR_SET: Message = Message {
    name: "operator set",
    bytes: size_of::<proto::OperatorSetIdProto>(),
    fields: &[(1, Text), (2, Varints(0))],
};
static GRAPH: Message = Message {
    name: "graph",
    bytes: size_of::<proto::GraphProto>(),
    fields: &[
        (1, Field::Message(&NODE)),
        (2, Text),
        (5, Field::Message(&TENSOR)),
        (11, Field::Message(&VALUE_INFO)),
        (12, Field::Message(&VALUE_INFO)),
        (13, Field::Message(&VALUE_INFO)),
        (15, Field::Message(&SPARSE_TENSOR)),
    ],
};
static FUNCTION: Message = Message {
    name: "function",
    bytes: size_of::<proto::FunctionProto>(),
    fields: &[
        (1, Text),
        (4, Text),
        (5, Text),
        (6, Text),
        (7, Field::Message(&NODE)),
        (9, Field::Message(&OPERATOR_SET)),
        (10, Text),
        (11, Field::Message(&ATTRIBUTE)),
        (13, Text),
    ],
};
static NODE: Message = Message {
    name: "node",
    bytes: size_of::<proto::NodeProto>(),
    fields: &[
        (1, Text),
        (2, Text),
        (3, Text),
        (4, Text),
        (5, Field::Message(&ATTRIBUTE)),
        (7, Text),
        (8, Text),
    ],
};
static ATTRIBUTE: Message = Message {
    name: "attribute",
    bytes: size_of::<proto::AttributeProto>(),
    fields: &[
        (1, Text),
        (4, Blob),
        (5, Field::Message(&TENSOR)),
        (6, Field::Message(&GRAPH)),
        (7, Fixed(4)),
        (8, Varints(8)),
        (9, Blob),
        (21, Text),
        (22, Field::Message(&SPARSE_TENSOR)),
    ],
};
static VALUE_INFO: Message = Message {
    name: "value description",
    bytes: size_of::<proto::ValueInfoProto>(),
    fields: &[(1, Text), (2, Field::Message(&TYPE))],
};
static TYPE: Message = Message {
    name: "type",
    bytes: 0,
    fields: &[(1, Field::Message(&TENSOR_TYPE)), (4, Blob), (5, Blob), (8, Blob), (9, Blob)],
};
static TENSOR_TYPE: Message =
    Message { name: "tensor type", bytes: 0, fields: &[(2, Field::Message(&TENSOR_SHAPE))] };
static TENSOR_SHAPE: Message =
    Message { name: "tensor shape", bytes: 0, fields: &[(1, Field::Message(&DIMENSION))] };
static DIMENSION: Message = Message {
    name: "dimension",
    bytes: size_of::<proto::tensor_shape_proto::Dimension>(),
    fields: &[(2, Text)],
};
static TENSOR: Message = Message {
    name: "tensor",
    bytes: size_of::<proto::TensorProto>(),
    fields: &[
        (1, Varints(8)),
        (4, Fixed(4)),
        (5, Varints(4)),
        (6, Blob),
        (7, Varints(8)),
        (8, Text),
        (9, Blob),
        (10, Fixed(8)),
        (11, Varints(8)),
        (13, Field::Message(&ENTRY)),
    ],
};
static SPARSE_TENSOR: Message = Message {
    name: "sparse tensor",
    bytes: size_of::<proto::SparseTensorProto>(),
    fields: &[(1, Field::Message(&TENSOR)), (2, Field::Message(&TENSOR)), (3, Varints(8))],
};
static ENTRY: Message = Message {
    name: "key and value",
    bytes: size_of::<proto::StringStringEntryProto>(),
    fields: &[(1, Text), (2, Text)],
};

struct Scan<'a> {
    data: &'a [u8],
    decoded_bytes: u64,
    limit_bytes: u64,
}

impl Scan<'_> {
    /// Looks over `data[at..end]`, the body of one `message`.
    fn message(
        &mut self,
        message: &'static Message,
        mut at: usize,
        end: usize,
        depth: usize,
    ) -> Result<(), WireError> {
        if depth > DEPTH {
            return Err(WireError::TooDeep { limit: DEPTH, offset: at });
        }
        self.charge(message.bytes as u64)?;
        while at < end {
            let start = at;
            let malformed = WireError::Malformed { message: message.name, offset: start };
            let truncated = WireError::Truncated { message: message.name, offset: end };
            let key = self.varint(&mut at, end, message)?;
            let number = u32::try_from(key >> 3).map_err(|_| malformed.clone())?;
            let field = message.fields.iter().find(|(n, _)| *n == number).map(|(_, f)| f);
            match key & 7 {
                0 => {
                    self.varint(&mut at, end, message)?;
                    self.charge_scalar(field)?;
                }
                wire @ (1 | 5) => {
                    at += if wire == 1 { 8 } else { 4 };
                    self.charge_scalar(field)?;
                }
                2 => {
                    let length = usize::try_from(self.varint(&mut at, end, message)?).unwrap_or(usize::MAX);
                    let stop = at
                        .checked_add(length)
                        .filter(|stop| *stop <= end)
                        .ok_or_else(|| truncated.clone())?;
                    self.delimited(field, at, stop, depth)?;
                    at = stop;
                }
                // Groups are not used by ONNX; the decoder would have to find their end.
                _ => return Err(malformed),
            }
            if at > end {
                return Err(truncated);
            }
        }
        Ok(())
    }

    fn delimited(
        &mut self,
        field: Option<&Field>,
        at: usize,
        stop: usize,
        depth: usize,
    ) -> Result<(), WireError> {
        let length = (stop - at) as u64;
        match field {
            None => Ok(()),
            Some(Field::Message(message)) => self.message(message, at, stop, depth + 1),
            Some(Text) => self.charge(size_of::<String>() as u64 + length),
            Some(Blob) => self.charge(size_of::<bytes::Bytes>() as u64),
            Some(Fixed(_)) => self.charge(length),
            Some(Varints(width)) => {
                let count = self.data[at..stop].iter().filter(|byte| **byte < 0x80).count();
                self.charge(count as u64 * *width as u64)
            }
        }
    }

    fn charge_scalar(&mut self, field: Option<&Field>) -> Result<(), WireError> {
        match field {
            Some(Varints(width) | Fixed(width)) => self.charge(*width as u64),
            _ => Ok(()),
        }
    }

    fn charge(&mut self, bytes: u64) -> Result<(), WireError> {
        self.decoded_bytes += bytes;
        match self.decoded_bytes <= self.limit_bytes {
            true => Ok(()),
            false => Err(WireError::TooLarge { file_bytes: self.data.len(), limit_bytes: self.limit_bytes }),
        }
    }

    fn varint(&self, at: &mut usize, end: usize, message: &Message) -> Result<u64, WireError> {
        let start = *at;
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let Some(byte) = self.data[..end].get(*at) else {
                return Err(WireError::Truncated { message: message.name, offset: end });
            };
            *at += 1;
            value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if *byte < 0x80 {
                return Ok(value);
            }
        }
        Err(WireError::Malformed { message: message.name, offset: start })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `payload` as the length-delimited field `number`.
    fn field(number: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2];
        let mut length = payload.len();
        while length >= 0x80 {
            out.push(length as u8 | 0x80);
            length >>= 7;
        }
        out.push(length as u8);
        out.extend_from_slice(payload);
        out
    }

    #[test]
    fn nested_graphs_are_cut_off_before_the_decoder_recurses() {
        let mut graph = Vec::new();
        for _ in 0..10_000 {
            graph = field(1, &field(5, &field(6, &graph)));
            if graph.len() > 1 << 16 {
                break;
            }
        }
        assert!(matches!(check(&field(7, &graph)), Err(WireError::TooDeep { .. })));
    }

    #[test]
    fn many_empty_messages_are_too_large() {
        let nodes = [1 << 3 | 2, 0].repeat(3 << 20);
        assert!(matches!(check(&field(7, &nodes)), Err(WireError::TooLarge { .. })));
        let numbers = field(8, &vec![1u8; 80 << 20]);
        let graph = field(1, &field(5, &numbers));
        assert!(matches!(check(&field(7, &graph)), Err(WireError::TooLarge { .. })));
    }

    #[test]
    fn a_cut_file_is_truncated_and_noise_is_malformed() {
        let model = field(7, &field(1, &field(4, b"Relu")));
        assert_eq!(check(&model), Ok(()));
        for length in 1..model.len() {
            assert!(matches!(check(&model[..length]), Err(WireError::Truncated { .. })), "{length}");
        }
        assert!(matches!(check(&[0xff; 64]), Err(WireError::Malformed { .. })));
        assert!(matches!(check(&[7 << 3 | 3]), Err(WireError::Malformed { .. })));
    }
}
