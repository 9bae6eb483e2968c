//! Finding elements in a list.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::call::Attributes;
use crate::error::HostError;
use crate::functions::{Context, Function};
use crate::tensor::{DType, HostTensor, TensorView};

/// For each element of operand 0 its first position in the list that is operand 1, i64, or -1. Both are of one type.
/// Floats are found by value: NaN finds NaN, and 0 finds -0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexOf {
    /// An element that is not in the list is an error.
    pub required: bool,
}

impl Attributes for IndexOf {
    const FUNCTION: &'static str = "index_of.1";
}

impl Function for IndexOf {
    fn run(
        &self,
        operands: &[TensorView<'_>],
        context: &mut Context<'_>,
    ) -> Result<Vec<HostTensor>, HostError> {
        let [x, keys] = context.exactly(operands)?;
        context.dtype(&keys, x.dtype)?;
        let mut positions = HashMap::with_capacity(keys.len());
        for (position, key) in keys.bits().enumerate() {
            context.work(8)?;
            positions.entry(canonical(x.dtype, key)).or_insert(position as u64);
        }
        context.reserve(Some((x.len() as u64).saturating_mul(8)))?;
        let find = |element| {
            context.work(8)?;
            Ok(positions.get(&canonical(x.dtype, element)).copied().unwrap_or(u64::MAX))
        };
        let found = x.bits().map(find).collect::<Result<Vec<u64>, HostError>>()?;
        if self.required
            && let Some(missing) = found.iter().position(|&position| position == u64::MAX)
        {
            return Err(
                context.value(format!("element {missing} is not among the {} known ones", keys.len()))
            );
        }
        Ok(vec![HostTensor::of_words(DType::I64, x.dims.to_vec(), found)])
    }
}

/// One pattern of bits for floats that count as equal.
fn canonical(dtype: DType, bits: u64) -> u64 {
    // The bits of infinity without its sign: magnitudes above are NaN.
    let (sign, infinity) = match dtype {
        DType::F16 => (1 << 15, 0x7c00),
        DType::BF16 => (1 << 15, 0x7f80),
        DType::F32 => (1 << 31, 0x7f80_0000),
        DType::F64 => (1 << 63, 0x7ff0_0000_0000_0000),
        _ => return bits,
    };
    match bits & !sign {
        0 => 0,
        magnitude if magnitude > infinity => u64::MAX,
        _ => bits,
    }
}
