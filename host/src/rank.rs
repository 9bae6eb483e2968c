//! The order of strings, as numbers that kernels can sort.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::call::Attributes;
use crate::error::HostError;
use crate::functions::{Context, Function};
use crate::tensor::{DType, HostTensor, TensorView};

/// For each string how many different smaller ones there are in the operand, i64; by bytes, which for UTF-8 is by
/// code points.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StringRank;

impl Attributes for StringRank {
    const FUNCTION: &'static str = "string_rank.1";
}

impl Function for StringRank {
    fn run(
        &self,
        operands: &[TensorView<'_>],
        context: &mut Context<'_>,
    ) -> Result<Vec<HostTensor>, HostError> {
        let [x] = context.exactly(operands)?;
        context.dtype(&x, DType::String)?;
        let mut handles: Vec<u64> = x.words().collect();
        handles.sort_unstable();
        handles.dedup();
        let mut texts = handles
            .into_iter()
            .map(|handle| Ok((context.bytes(handle)?, handle)))
            .collect::<Result<Vec<_>, HostError>>()?;
        texts.sort_unstable();
        let ranks: HashMap<u64, u64> =
            texts.into_iter().enumerate().map(|(rank, (_, handle))| (handle, rank as u64)).collect();
        let ranks = x.words().map(|handle| ranks.get(&handle).copied().unwrap_or(0));
        Ok(vec![HostTensor::of_words(DType::I64, x.dims.to_vec(), ranks)])
    }
}
