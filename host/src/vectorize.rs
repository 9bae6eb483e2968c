//! Counting n-grams.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::call::Attributes;
use crate::error::HostError;
use crate::functions::{Context, Function};
use crate::tensor::{DType, HostTensor, TensorView};

/// Counts how often each n-gram of a pool occurs in each row. Operands: x, `[c]` or `[n, c]` of strings or integers;
/// the pool, of strings where x is, else of i64. The result is f32 of `[size]` or `[n, size]`.
///
/// Source: ONNX `TfIdfVectorizer`, without its weights.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountNgrams {
    pub min_length: u64,
    pub max_length: u64,
    /// Elements that may stand between two of an n-gram, the same number between all of them.
    pub max_skip: u64,
    /// Where in the pool the n-grams of each length start; those of length 1 first.
    pub starts: Vec<u64>,
    /// The element of the result in which each n-gram of the pool is counted, in the pool's order.
    pub columns: Vec<u64>,
    /// Elements of a row of the result.
    pub size: u64,
}

impl Attributes for CountNgrams {
    const FUNCTION: &'static str = "count_ngrams.1";
}

/// Columns by n-gram, for one length.
type Grams = HashMap<Vec<u64>, usize>;

impl Function for CountNgrams {
    fn run(
        &self,
        operands: &[TensorView<'_>],
        context: &mut Context<'_>,
    ) -> Result<Vec<HostTensor>, HostError> {
        let [x, pool] = context.exactly(operands)?;
        let pool_type = if x.dtype == DType::String { DType::String } else { DType::I64 };
        context.dtype(&pool, pool_type)?;
        let (rows, length, dims) = match *x.dims {
            [length] => (1, length, vec![self.size]),
            [rows, length] => (rows, length, vec![rows, self.size]),
            _ => return Err(context.operands("a list or a matrix", format!("{:?}", x.dims))),
        };
        let elements: Vec<u64> = match x.dtype {
            DType::String | DType::I64 => x.words().collect(),
            DType::I32 => x.bits().map(|bits| i64::from(bits as u32 as i32) as u64).collect(),
            other => return Err(context.operands("string, i32 or i64", other.name())),
        };
        let pool: Vec<u64> = pool.words().collect();
        let lengths = self.lengths(&pool).map_err(|problem| context.value(problem))?;
        let total = rows.checked_mul(self.size);
        context.reserve(total.and_then(|n| n.checked_mul(4)))?;
        // A skip past the end of the row finds nothing more.
        let skips = self.max_skip.min(length) + 1;
        let gram_steps: u64 = lengths.iter().map(|(n, _)| *n as u64).sum();
        context.steps(skips.saturating_mul(elements.len() as u64).saturating_mul(gram_steps))?;
        let mut counts = vec![0f32; total.unwrap_or(0) as usize];
        let (length, size) = (length as usize, self.size as usize);
        for row in 0..rows as usize {
            let elements = &elements[row * length..(row + 1) * length];
            let counts = &mut counts[row * size..(row + 1) * size];
            for (n, grams) in &lengths {
                count_row(context, elements, *n, grams, skips as usize, counts)?;
            }
        }
        let data = counts.into_iter().flat_map(f32::to_le_bytes).collect();
        Ok(vec![HostTensor { dtype: DType::F32, dims, data }])
    }
}

/// Counts the n-grams of length `n` in a row, at every distance between their elements.
fn count_row(
    context: &Context<'_>,
    row: &[u64],
    n: usize,
    grams: &Grams,
    skips: usize,
    counts: &mut [f32],
) -> Result<(), HostError> {
    // Distance does not matter to single elements.
    let distances = if n == 1 { 1 } else { skips };
    let mut gram = Vec::with_capacity(n);
    for distance in 1..=distances {
        let span = (n - 1).saturating_mul(distance);
        for start in 0..row.len().saturating_sub(span) {
            context.work(8 + n as u64)?;
            gram.clear();
            gram.extend((0..n).map(|i| row[start + i * distance]));
            if let Some(&column) = grams.get(&gram) {
                counts[column] += 1.0;
            }
        }
    }
    Ok(())
}

impl CountNgrams {
    /// The wanted lengths, each with its n-grams.
    fn lengths(&self, pool: &[u64]) -> Result<Vec<(usize, Grams)>, String> {
        let mut lengths = Vec::new();
        let mut columns = self.columns.iter();
        for (i, &start) in self.starts.iter().enumerate() {
            let end = self.starts.get(i + 1).copied().unwrap_or(pool.len() as u64);
            let n = i + 1;
            let part = usize::try_from(start).ok().zip(usize::try_from(end).ok());
            let part = part.and_then(|(start, end)| pool.get(start..end));
            let part =
                part.ok_or_else(|| format!("n-grams of length {n} are {start}..{end} of {}", pool.len()))?;
            let mut grams = Grams::new();
            for gram in part.chunks_exact(n) {
                let column = columns.next().ok_or("there are more n-grams than columns")?;
                if *column >= self.size {
                    return Err(format!("column {column} of {}", self.size));
                }
                grams.insert(gram.to_vec(), *column as usize);
            }
            let wanted = (self.min_length..=self.max_length).contains(&(n as u64));
            if wanted && !grams.is_empty() {
                lengths.push((n, grams));
            }
        }
        Ok(lengths)
    }
}
