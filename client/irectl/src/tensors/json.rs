//! KServe v2 tensors in JSON: the body of a REST inference, as a file.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use half::{bf16, f16};
use ired_client::{DataType, Tensor};
use ired_module::DType;
use ired_module::texts::{self, Texts};
use serde::Deserialize;
use serde_json::{Number, Value, json};

use super::NamedTensor;

#[derive(Deserialize)]
struct Request {
    inputs: Vec<Input>,
}

#[derive(Deserialize)]
struct Input {
    name: String,
    datatype: String,
    shape: Vec<u64>,
    data: Value,
}

/// Reads the inputs of a request; nested and flat `data` mean the same.
pub(crate) fn read_request(path: &Path) -> Result<Vec<NamedTensor>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let request: Request = serde_json::from_str(&text)
        .with_context(|| format!("`{}` is not a KServe v2 request", path.display()))?;
    request
        .inputs
        .into_iter()
        .map(|input| {
            let name = input.name.clone();
            tensor(input).with_context(|| format!("input `{name}`"))
        })
        .collect()
}

fn tensor(input: Input) -> Result<NamedTensor> {
    let dtype = dtype(input.datatype.parse()?);
    let mut data = Vec::new();
    encode(&input.data, dtype, &mut data)?;
    if dtype == DType::String {
        let found = texts::count(&data).unwrap_or(0);
        ensure!(texts::is_tensor(dtype, &input.shape, &data), "{found} strings for shape {:?}", input.shape);
        return Ok(NamedTensor { name: input.name, dtype, dims: input.shape, data: data.into() });
    }
    let expected = dtype.tensor_bytes(&input.shape).context("its size overflows")?;
    ensure!(data.len() as u64 == expected, "{} bytes of data where {expected} belong", data.len());
    Ok(NamedTensor { name: input.name, dtype, dims: input.shape, data: data.into() })
}

fn encode(value: &Value, dtype: DType, out: &mut Vec<u8>) -> Result<()> {
    match value {
        Value::Array(items) => return items.iter().try_for_each(|item| encode(item, dtype, out)),
        Value::Bool(b) if dtype == DType::Bool => out.push((*b).into()),
        Value::String(text) if dtype == DType::String => {
            ensure!(texts::push(out, text.as_bytes()), "a string of {} bytes", text.len());
        }
        Value::Number(n) => encode_number(n, dtype, out)?,
        other => bail!("`{other}` is not {dtype}"),
    }
    Ok(())
}

fn encode_number(n: &Number, dtype: DType, out: &mut Vec<u8>) -> Result<()> {
    let wrong = || format!("`{n}` is not {dtype}");
    macro_rules! integer {
        ($from:ident, $ty:ty) => {{
            let value = n.$from().and_then(|v| <$ty>::try_from(v).ok());
            out.extend(value.with_context(wrong)?.to_le_bytes());
        }};
    }
    let float = || n.as_f64().with_context(wrong);
    match dtype {
        DType::F64 => out.extend(float()?.to_le_bytes()),
        DType::F32 => out.extend((float()? as f32).to_le_bytes()),
        DType::F16 => out.extend(f16::from_f64(float()?).to_le_bytes()),
        DType::BF16 => out.extend(bf16::from_f64(float()?).to_le_bytes()),
        DType::I8 => integer!(as_i64, i8),
        DType::I16 => integer!(as_i64, i16),
        DType::I32 => integer!(as_i64, i32),
        DType::I64 => integer!(as_i64, i64),
        DType::U8 => integer!(as_u64, u8),
        DType::U16 => integer!(as_u64, u16),
        DType::U32 => integer!(as_u64, u32),
        DType::U64 => integer!(as_u64, u64),
        _ => bail!(wrong()),
    }
    Ok(())
}

/// A KServe v2 answer with flat data and the latency as this side saw it.
pub(crate) fn response(
    model: &str,
    version: &str,
    outputs: &[NamedTensor],
    latency: Duration,
) -> Result<Value> {
    let outputs = outputs
        .iter()
        .map(|t| {
            let data_type = data_type(t.dtype)?;
            Ok(json!({"name": t.name, "datatype": data_type.name(), "shape": t.dims, "data": values(t)?}))
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(json!({"model_name": model, "model_version": version, "outputs": outputs,
              "parameters": {"latency_us": latency.as_micros() as u64}}))
}

/// JSON has no NaN and no infinity; they are `null`. Strings must be UTF-8.
fn values(tensor: &NamedTensor) -> Result<Vec<Value>> {
    macro_rules! all {
        ($ty:ty) => {
            tensor.data.as_chunks().0.iter().map(|b| json!(<$ty>::from_le_bytes(*b))).collect()
        };
    }
    Ok(match tensor.dtype {
        DType::Bool => tensor.data.iter().map(|b| json!(*b != 0)).collect(),
        DType::F64 => all!(f64),
        DType::F32 => all!(f32),
        DType::F16 => {
            tensor.data.as_chunks().0.iter().map(|b| json!(f16::from_le_bytes(*b).to_f32())).collect()
        }
        DType::BF16 => {
            tensor.data.as_chunks().0.iter().map(|b| json!(bf16::from_le_bytes(*b).to_f32())).collect()
        }
        DType::I8 => all!(i8),
        DType::I16 => all!(i16),
        DType::I32 => all!(i32),
        DType::I64 => all!(i64),
        DType::U8 => all!(u8),
        DType::U16 => all!(u16),
        DType::U32 => all!(u32),
        DType::U64 => all!(u64),
        DType::String => {
            let text = |text| std::str::from_utf8(text).map(|text| json!(text));
            let texts = Texts::new(&tensor.data).map(text).collect::<Result<_, _>>();
            texts.context("a string is not UTF-8, which JSON cannot express")?
        }
        other => bail!("{other} has no JSON form"),
    })
}

/// The protocol's types and the module's, one to one.
const TYPES: &[(DataType, DType)] = &[
    (DataType::Bool, DType::Bool),
    (DataType::Uint8, DType::U8),
    (DataType::Uint16, DType::U16),
    (DataType::Uint32, DType::U32),
    (DataType::Uint64, DType::U64),
    (DataType::Int8, DType::I8),
    (DataType::Int16, DType::I16),
    (DataType::Int32, DType::I32),
    (DataType::Int64, DType::I64),
    (DataType::Fp16, DType::F16),
    (DataType::Bf16, DType::BF16),
    (DataType::Fp32, DType::F32),
    (DataType::Fp64, DType::F64),
    (DataType::Bytes, DType::String),
];

fn dtype(data_type: DataType) -> DType {
    TYPES.iter().find(|row| row.0 == data_type).expect("the table lists every type of the protocol").1
}

fn data_type(dtype: DType) -> Result<DataType> {
    let row = TYPES.iter().find(|row| row.1 == dtype);
    Ok(row.with_context(|| format!("the protocol has no type for {dtype}"))?.0)
}

impl TryFrom<NamedTensor> for Tensor {
    type Error = anyhow::Error;

    fn try_from(tensor: NamedTensor) -> Result<Self> {
        let data_type = data_type(tensor.dtype)?;
        Ok(Self { name: tensor.name, data_type, shape: tensor.dims, data: tensor.data })
    }
}

impl From<Tensor> for NamedTensor {
    fn from(tensor: Tensor) -> Self {
        Self { name: tensor.name, dtype: dtype(tensor.data_type), dims: tensor.shape, data: tensor.data }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(datatype: &str, shape: Vec<u64>, data: Value) -> Input {
        Input { name: "x".into(), datatype: datatype.into(), shape, data }
    }

    #[test]
    fn nested_and_flat_data_mean_the_same() {
        let flat = tensor(input("FP32", vec![2, 2], json!([1, 2.5, 3, 4]))).unwrap();
        assert_eq!(flat, tensor(input("FP32", vec![2, 2], json!([[1, 2.5], [3, 4]]))).unwrap());
        assert_eq!(values(&flat).unwrap(), [json!(1.0), json!(2.5), json!(3.0), json!(4.0)]);
    }

    #[test]
    fn strings_go_there_and_back() {
        let strings = tensor(input("BYTES", vec![2, 1], json!([["a"], ["\u{e9}"]]))).unwrap();
        assert_eq!(values(&strings).unwrap(), [json!("a"), json!("\u{e9}")]);
        let error = tensor(input("BYTES", vec![3], json!(["a"]))).unwrap_err().to_string();
        assert_eq!(error, "1 strings for shape [3]");
    }

    #[test]
    fn what_does_not_fit_the_type_is_refused() {
        let message = |i: Input| tensor(i).unwrap_err().to_string();
        assert_eq!(message(input("INT8", vec![1], json!([300]))), "`300` is not i8");
        assert_eq!(message(input("INT32", vec![1], json!([1.5]))), "`1.5` is not i32");
        assert_eq!(message(input("BOOL", vec![1], json!(["x"]))), "`\"x\"` is not bool");
        assert_eq!(message(input("FP32", vec![3], json!([1]))), "4 bytes of data where 12 belong");
    }
}
