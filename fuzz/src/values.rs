//! Numbers, tensors and attributes that suit an operator, or nearly do.

use arbitrary::{Result, Unstructured};
use ired_frontends::onnx::proto::{AttributeProto, TensorProto};

use crate::schema::Kind;

/// Element types by ONNX's numbers, common ones first: a fuzzer's bytes are small numbers more often than not.
const TYPES: [i32; 24] =
    [1, 7, 9, 6, 10, 2, 3, 11, 16, 8, 12, 13, 4, 5, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26];

/// What string attributes of these names may be.
const TEXTS: [(&str, &[&str]); 22] = [
    (
        "mode",
        &[
            "constant",
            "reflect",
            "edge",
            "wrap",
            "linear",
            "nearest",
            "cubic",
            "bilinear",
            "bicubic",
            "DCR",
            "CRD",
            "avg",
            "max",
            "output_half_pixel",
            "half_pixel",
            "TF",
            "IDF",
            "TFIDF",
            "fmod",
        ],
    ),
    ("auto_pad", &["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]),
    (
        "coordinate_transformation_mode",
        &[
            "half_pixel",
            "half_pixel_symmetric",
            "pytorch_half_pixel",
            "align_corners",
            "asymmetric",
            "tf_crop_and_resize",
            "output_half_pixel",
        ],
    ),
    ("nearest_mode", &["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]),
    ("keep_aspect_ratio_policy", &["stretch", "not_larger", "not_smaller"]),
    ("padding_mode", &["zeros", "border", "reflection"]),
    ("reduction", &["none", "sum", "mean", "add", "mul", "max", "min"]),
    ("direction", &["forward", "reverse", "bidirectional", "LEFT", "RIGHT"]),
    (
        "activations",
        &[
            "Relu",
            "Tanh",
            "Sigmoid",
            "Affine",
            "LeakyRelu",
            "ThresholdedRelu",
            "ScaledTanh",
            "HardSigmoid",
            "Elu",
            "Softsign",
            "Softplus",
        ],
    ),
    ("activation", &["Relu", "Tanh", "Sigmoid", "LeakyRelu", "Clip", "HardSigmoid", "silu", "swish", "none"]),
    ("equation", &["ij,jk->ik", "ij->ji", "...i,...i", "ii->i", "bij,bjk", "i,j->ij", "...ii->...i", "ij->"]),
    ("post_transform", &["NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"]),
    ("norm", &["MAX", "L1", "L2"]),
    ("kernel_type", &["LINEAR", "POLY", "RBF", "SIGMOID"]),
    ("kernel_params", &["LINEAR"]),
    (
        "nodes_modes",
        &[
            "BRANCH_LEQ",
            "BRANCH_LT",
            "BRANCH_GTE",
            "BRANCH_GT",
            "BRANCH_EQ",
            "BRANCH_NEQ",
            "LEAF",
            "BRANCH_MEMBER",
        ],
    ),
    ("aggregate_function", &["SUM", "AVERAGE", "MIN", "MAX"]),
    ("case_change_action", &["NONE", "LOWER", "UPPER"]),
    ("pixel_format", &["RGB", "BGR", "Grayscale"]),
    ("approximate", &["none", "tanh"]),
    ("pattern", &["a*", "[a-c]+", "(", "\\d+", ""]),
    ("layout", &["", "NHWC"]),
];

/// What a string may be where nothing better is known.
const WORDS: [&str; 10] = ["", "a", "b", "1", "-2.5", "ab c", "nan", "é", "\u{10ffff}", "0x"];

pub(crate) fn element_type(u: &mut Unstructured<'_>) -> Result<i32> {
    Ok(TYPES[u.int_in_range(0..=TYPES.len() - 1)?])
}

/// Small as a rule, now and then anything.
pub(crate) fn number(u: &mut Unstructured<'_>) -> Result<i64> {
    if !u.ratio(1, 24)? {
        return u.int_in_range(-2..=5);
    }
    let edges = [i64::MAX, i64::MIN, i64::MAX - 1, 1 << 31, -(1 << 31), (1 << 31) - 1, 1 << 40, 255, 1 << 16];
    if u.arbitrary()? { Ok(*u.choose(&edges)?) } else { u.arbitrary() }
}

pub(crate) fn float(u: &mut Unstructured<'_>) -> Result<f32> {
    if u.ratio(1, 24)? {
        let edges = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN_POSITIVE, -0.0, 1e-30];
        return Ok(*u.choose(&edges)?);
    }
    Ok(u.int_in_range(-6..=14)? as f32 / 4.0)
}

pub(crate) fn word(u: &mut Unstructured<'_>) -> Result<&'static str> {
    Ok(*u.choose(&WORDS)?)
}

/// A small count, where lists are made.
pub(crate) fn count(u: &mut Unstructured<'_>, most: usize) -> Result<usize> {
    u.int_in_range(0..=most)
}

/// Sizes of few elements.
pub(crate) fn sizes(u: &mut Unstructured<'_>, most_axes: usize) -> Result<Vec<i64>> {
    let rank = count(u, most_axes)?;
    (0..rank).map(|_| if u.ratio(1, 12)? { Ok(0) } else { u.int_in_range(1..=4) }).collect()
}

/// A tensor of element type `code`: of the right length, but for once in a while.
pub(crate) fn tensor(u: &mut Unstructured<'_>, name: &str, code: i32, dims: Vec<i64>) -> Result<TensorProto> {
    let elements = dims.iter().try_fold(1i64, |n, d| n.checked_mul(*d)).unwrap_or(0).clamp(0, 4096);
    let elements = elements as usize + usize::from(u.ratio(1, 64)?);
    let mut tensor =
        TensorProto { name: Some(name.to_owned()), data_type: Some(code), dims, ..TensorProto::default() };
    match code {
        1 => tensor.float_data = (0..elements).map(|_| float(u)).collect::<Result<_>>()?,
        11 => tensor.double_data = (0..elements).map(|_| Ok(f64::from(float(u)?))).collect::<Result<_>>()?,
        7 => tensor.int64_data = (0..elements).map(|_| number(u)).collect::<Result<_>>()?,
        12 | 13 => {
            tensor.uint64_data = (0..elements).map(|_| Ok(number(u)? as u64)).collect::<Result<_>>()?;
        }
        8 => {
            let words = (0..elements).map(|_| Ok(word(u)?.into()));
            tensor.string_data = words.collect::<Result<_>>()?;
        }
        10 | 16 => {
            let bits = |u: &mut Unstructured<'_>| {
                let wide = float(u)?.to_bits();
                Ok(if code == 16 {
                    wide >> 16
                } else {
                    (wide >> 16 & 0x8000) | 0x3c00 | (wide >> 13 & 0x3ff)
                })
            };
            tensor.int32_data = (0..elements).map(|_| Ok(bits(u)? as i32)).collect::<Result<_>>()?;
        }
        21 | 22 | 23 => tensor.raw_data = Some(bytes(u, elements.div_ceil(2))?.into()),
        25 | 26 => tensor.raw_data = Some(bytes(u, elements.div_ceil(4))?.into()),
        9 => {
            tensor.int32_data =
                (0..elements).map(|_| Ok(i32::from(u.arbitrary::<bool>()?))).collect::<Result<_>>()?
        }
        _ => tensor.int32_data = (0..elements).map(|_| Ok(number(u)? as i32)).collect::<Result<_>>()?,
    }
    Ok(tensor)
}

fn bytes(u: &mut Unstructured<'_>, count: usize) -> Result<Vec<u8>> {
    (0..count).map(|_| u.arbitrary()).collect()
}

/// An attribute of a kind other than [`Kind::Graph`], for an operator on tensors of rank `rank`.
pub(crate) fn attribute(
    u: &mut Unstructured<'_>,
    name: &str,
    kind: Kind,
    rank: usize,
) -> Result<AttributeProto> {
    let mut attribute = AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(kind as i32),
        ..AttributeProto::default()
    };
    match kind {
        Kind::Float => attribute.f = Some(float(u)?),
        Kind::Int if matches!(name, "to" | "dtype" | "output_dtype" | "stash_type" | "softmax_precision") => {
            attribute.i = Some(i64::from(element_type(u)?));
        }
        Kind::Int => attribute.i = Some(number(u)?),
        Kind::Text => attribute.s = Some(text(u, name)?.into()),
        Kind::Tensor => {
            let (code, dims) = (element_type(u)?, sizes(u, 1)?);
            attribute.t = Some(tensor(u, "", code, dims)?);
        }
        Kind::Floats => attribute.floats = list(u, float)?,
        Kind::Ints if name == "perm" && !u.ratio(1, 8)? => {
            let mut axes: Vec<i64> = (0..rank as i64).collect();
            if rank > 0 {
                axes.rotate_left(u.int_in_range(0..=rank - 1)?);
            }
            attribute.ints = axes;
        }
        Kind::Ints if !u.ratio(1, 4)? => {
            // One for each axis, each spatial one, or both ends of these; small.
            let spatial = rank.saturating_sub(2);
            let length = *u.choose(&[spatial, 2 * spatial, rank, 1, 2])?;
            let least = *u.choose(&[0, 1])?;
            attribute.ints = (0..length).map(|_| u.int_in_range(least..=2)).collect::<Result<_>>()?;
        }
        Kind::Ints => attribute.ints = list(u, number)?,
        Kind::Texts => attribute.strings = list(u, |u| Ok(text(u, name)?.into()))?,
        Kind::Graph => {}
    }
    Ok(attribute)
}

/// A list of up to five, as often as not of one value.
fn list<T: Clone>(
    u: &mut Unstructured<'_>,
    mut item: impl FnMut(&mut Unstructured<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    let length = count(u, 5)?;
    if u.arbitrary()? {
        return Ok(vec![item(u)?; length]);
    }
    (0..length).map(|_| item(u)).collect()
}

fn text(u: &mut Unstructured<'_>, name: &str) -> Result<&'static str> {
    match TEXTS.iter().find(|(attribute, _)| *attribute == name) {
        Some((_, known)) if !u.ratio(1, 16)? => Ok(*u.choose(known)?),
        _ => word(u),
    }
}
