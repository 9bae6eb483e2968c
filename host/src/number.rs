//! Numbers as text and back.

use half::{bf16, f16};
use serde::{Deserialize, Serialize};

use crate::call::Attributes;
use crate::error::HostError;
use crate::functions::{Context, Function};
use crate::tensor::{DType, HostTensor, TensorView};

/// Numbers as numpy writes them: the fewest digits that read back as the same float, `1e+16` from there on and below
/// `0.0001`, `nan`, `inf`; bools are `True` and `False`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Format;

impl Attributes for Format {
    const FUNCTION: &'static str = "format.1";
}

impl Function for Format {
    fn run(
        &self,
        operands: &[TensorView<'_>],
        context: &mut Context<'_>,
    ) -> Result<Vec<HostTensor>, HostError> {
        let [x] = context.exactly(operands)?;
        context.reserve(Some((x.len() as u64).saturating_mul(8)))?;
        let mut handles = Vec::with_capacity(x.len());
        for bits in x.bits() {
            context.work(64)?;
            handles.push(match x.dtype {
                DType::String => bits,
                dtype => context.strings.intern(number_text(dtype, bits).as_bytes())?,
            });
        }
        Ok(vec![HostTensor::of_words(DType::String, x.dims.to_vec(), handles)])
    }
}

fn number_text(dtype: DType, bits: u64) -> String {
    match dtype {
        DType::Bool => if bits != 0 { "True" } else { "False" }.to_owned(),
        DType::I8 => (bits as i8).to_string(),
        DType::I16 => (bits as i16).to_string(),
        DType::I32 => (bits as i32).to_string(),
        DType::I64 => (bits as i64).to_string(),
        DType::U8 | DType::U16 | DType::U32 | DType::U64 | DType::String => bits.to_string(),
        DType::F16 => {
            let value = f16::from_bits(bits as u16);
            float_text(value.to_f64(), &half_digits(value))
        }
        // numpy knows no bf16; its neighbours write the f32 that it equals.
        DType::BF16 => {
            let value = bf16::from_bits(bits as u16).to_f32();
            float_text(value.into(), &format!("{value:e}"))
        }
        DType::F32 => {
            let value = f32::from_bits(bits as u32);
            float_text(value.into(), &format!("{value:e}"))
        }
        DType::F64 => {
            let value = f64::from_bits(bits);
            float_text(value, &format!("{value:e}"))
        }
    }
}

/// The fewest digits that read back as `value`, as `1.5e3`.
fn half_digits(value: f16) -> String {
    // Five digits tell all halves apart.
    let written = |digits: usize| format!("{:.*e}", digits, value.to_f64());
    let reads_back = |text: &String| text.parse::<f64>().is_ok_and(|back| f16::from_f64(back) == value);
    (0..4).map(written).find(reads_back).unwrap_or_else(|| written(4))
}

/// `value` as numpy lays it out, from its shortest scientific form.
fn float_text(value: f64, scientific: &str) -> String {
    if value.is_nan() {
        return "nan".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let digits = match digits.trim_end_matches('0') {
        "" => "0",
        digits => digits,
    };
    if value != 0.0 && !(-4..16).contains(&exponent) {
        let (first, rest) = digits.split_at(1);
        let point = if rest.is_empty() { "" } else { "." };
        let exponent_sign = if exponent < 0 { '-' } else { '+' };
        return format!("{sign}{first}{point}{rest}e{exponent_sign}{:02}", exponent.abs());
    }
    match usize::try_from(exponent) {
        Ok(whole) if digits.len() > whole + 1 => {
            let (whole, rest) = digits.split_at(whole + 1);
            format!("{sign}{whole}.{rest}")
        }
        Ok(whole) => format!("{sign}{digits:0<width$}.0", width = whole + 1),
        Err(_) => format!("{sign}0.{}{digits}", "0".repeat((-exponent - 1) as usize)),
    }
}

/// Numbers out of text: decimal, with an exponent for floats; `nan`, `inf` and `infinity` in any case. Whitespace around
/// is ignored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parse {
    pub to: DType,
}

impl Attributes for Parse {
    const FUNCTION: &'static str = "parse.1";
}

impl Function for Parse {
    fn run(
        &self,
        operands: &[TensorView<'_>],
        context: &mut Context<'_>,
    ) -> Result<Vec<HostTensor>, HostError> {
        let [x] = context.exactly(operands)?;
        context.dtype(&x, DType::String)?;
        let width = self.to.bytes();
        context.reserve(Some((x.len() as u64).saturating_mul(width as u64)))?;
        let mut data = Vec::with_capacity(x.len() * width);
        for handle in x.words() {
            let text = context.text(handle)?;
            let bits = match self.to {
                DType::String => Some(handle),
                to => number_bits(to, text.trim()),
            };
            let fault = || {
                let shown: String = text.chars().take(64).collect();
                context.value(format!("{shown:?} is no {}", self.to.name()))
            };
            data.extend_from_slice(&bits.ok_or_else(fault)?.to_le_bytes()[..width]);
        }
        Ok(vec![HostTensor { dtype: self.to, dims: x.dims.to_vec(), data }])
    }
}

fn number_bits(dtype: DType, text: &str) -> Option<u64> {
    let integer = || text.parse::<i128>().ok();
    Some(match dtype {
        DType::Bool => match text {
            "True" | "true" | "1" => 1,
            "False" | "false" | "0" => 0,
            _ => return None,
        },
        DType::I8 => i8::try_from(integer()?).ok()? as u64,
        DType::I16 => i16::try_from(integer()?).ok()? as u64,
        DType::I32 => i32::try_from(integer()?).ok()? as u64,
        DType::I64 => i64::try_from(integer()?).ok()? as u64,
        DType::U8 => u8::try_from(integer()?).ok()?.into(),
        DType::U16 => u16::try_from(integer()?).ok()?.into(),
        DType::U32 => u32::try_from(integer()?).ok()?.into(),
        DType::U64 => u64::try_from(integer()?).ok()?,
        DType::F16 => f16::from_f64(text.parse().ok()?).to_bits().into(),
        DType::BF16 => bf16::from_f64(text.parse().ok()?).to_bits().into(),
        DType::F32 => text.parse::<f32>().ok()?.to_bits().into(),
        DType::F64 => text.parse::<f64>().ok()?.to_bits(),
        DType::String => return None,
    })
}
