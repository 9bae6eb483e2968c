//! Several requests as one: inputs one after the other along the batch dimension, outputs cut apart again.

use std::ops::DerefMut;

use bytes::Bytes;
use ired_module::DType;
use ired_module::signature::{DimSpec, EntryPoint, Rows, TensorSpec};
use ired_module::texts::{Texts, elements};
use ired_worker::{RuntimeFailure, Tensor, TensorData};

/// The most rows that requests of an entry point can be joined to: what its batch dimension takes.
///
/// A module says whether each row of its outputs depends on the same row of its inputs only. Where it does not,
/// `says_independent` is the word of whoever writes the configuration, which counts where shapes do not speak against it.
///
/// # Errors
/// What is in the way.
pub fn max_rows(entry: &EntryPoint, says_independent: bool) -> Result<u64, String> {
    match &entry.rows {
        Rows::Independent { .. } => {
            let first = specs(entry).filter_map(|(_, spec)| spec.dims.first());
            let most = first.map(|dim| match dim {
                DimSpec::Symbolic { max, .. } | DimSpec::Static(max) => *max,
            });
            most.min().ok_or_else(|| "it has neither inputs nor outputs".to_owned())
        }
        Rows::Dependent { .. } if says_independent => rows_by_shape(entry),
        Rows::Dependent { reason } => Err(format!(
            "{reason}; if you know better, the parameter `ired.rows_independent` of the configuration says so"
        )),
    }
}

/// The same for requests whose configuration does not ask for it, of which a setting says how many rows they may have: none
/// where it would show in the last bits of an answer what else was asked.
pub fn unasked_rows(entry: &EntryPoint, setting: u64) -> u64 {
    match entry.rows {
        Rows::Independent { exact: Ok(()), .. } => setting,
        Rows::Independent { exact: Err(_), .. } | Rows::Dependent { .. } => 0,
    }
}

/// What the batch dimension takes: the one symbol that every input and output begins with and that stands nowhere else.
fn rows_by_shape(entry: &EntryPoint) -> Result<u64, String> {
    let mut batch: Option<(&str, u64)> = None;
    for (kind, spec) in specs(entry) {
        let name = &spec.name;
        match (spec.dims.first(), batch) {
            (Some(DimSpec::Symbolic { name: symbol, max, .. }), None) => batch = Some((symbol, *max)),
            (Some(DimSpec::Symbolic { name: symbol, .. }), Some((known, _))) if symbol == known => {}
            (Some(DimSpec::Symbolic { name: symbol, .. }), Some((known, _))) => {
                return Err(format!("{kind} `{name}` begins with `{symbol}`, others with `{known}`"));
            }
            (Some(DimSpec::Static(size)), _) => {
                return Err(format!("{kind} `{name}` begins with {size}, not with a batch dimension"));
            }
            (None, _) => return Err(format!("{kind} `{name}` is a scalar and has no batch dimension")),
        }
    }
    let (batch, max) = batch.ok_or("it has neither inputs nor outputs")?;
    let inputs: Vec<&str> =
        entry.inputs.iter().flat_map(|spec| spec.dims.iter().filter_map(symbol)).collect();
    for (kind, spec) in specs(entry) {
        for symbol in spec.dims.iter().skip(1).filter_map(symbol) {
            if symbol == batch {
                return Err(format!("{kind} `{}` has the batch dimension `{batch}` twice", spec.name));
            }
            // It may depend on what the rows hold.
            if !inputs.contains(&symbol) {
                return Err(format!("{kind} `{}` has a size that no input has, `{symbol}`", spec.name));
            }
        }
    }
    Ok(max)
}

/// All inputs and outputs, and which of the two each is.
pub fn specs(entry: &EntryPoint) -> impl Iterator<Item = (&'static str, &TensorSpec)> {
    let inputs = entry.inputs.iter().map(|spec| ("input", spec));
    inputs.chain(entry.outputs.iter().map(|spec| ("output", spec)))
}

fn symbol(dim: &DimSpec) -> Option<&str> {
    match dim {
        DimSpec::Symbolic { name, .. } => Some(name),
        DimSpec::Static(_) => None,
    }
}

/// The rows of a request's inputs, where they have any.
pub(super) fn rows(inputs: &[Tensor]) -> u64 {
    inputs.first().and_then(|tensor| tensor.dims.first()).copied().unwrap_or(1)
}

/// A request's rows, and what must be equal in another for the two to be joined; `None` for what runs alone.
///
/// The inputs are those of the entry point and fit it.
pub(super) fn likeness(entry: &EntryPoint, inputs: &[Tensor]) -> (u64, Option<Box<[u64]>>) {
    let rows = rows(inputs);
    let mut sizes = Vec::new();
    for spec in &entry.inputs {
        let Some(tensor) = inputs.iter().find(|tensor| tensor.name == spec.name) else { return (rows, None) };
        let row = tensor.dims.get(1..).unwrap_or_default();
        let bits = elements(row).and_then(|elements| elements.checked_mul(tensor.dtype.bits()));
        // Half a byte cannot begin a row, and inputs have one row for each of the others.
        if rows == 0
            || tensor.dims.first() != Some(&rows)
            || tensor.dtype != DType::String && bits.is_none_or(|bits| bits % 8 != 0)
        {
            return (rows, None);
        }
        sizes.extend_from_slice(row);
    }
    (rows, Some(sizes.into()))
}

/// Puts requests of equal likeness together, in what `memory` gives for so many bytes, where it gives any.
pub(super) fn join<M>(parts: &[Vec<Tensor>], memory: impl Fn(usize) -> Option<M>) -> Vec<Tensor>
where
    M: DerefMut<Target = [u8]> + Into<TensorData>,
{
    let Some(first) = parts.first() else { return Vec::new() };
    let joined = first.iter().map(|tensor| {
        let same = |part: &'_ Vec<Tensor>| part.iter().position(|other| other.name == tensor.name);
        let pieces: Vec<&Tensor> = parts.iter().filter_map(|part| Some(&part[same(part)?])).collect();
        let rows = pieces.iter().filter_map(|piece| piece.dims.first()).sum();
        let mut dims = tensor.dims.clone();
        if let Some(first) = dims.first_mut() {
            *first = rows;
        }
        let data: Vec<&[u8]> = pieces.iter().map(|piece| &piece.data[..]).collect();
        let data = match memory(data.iter().map(|piece| piece.len()).sum()) {
            Some(joined) => fill(joined, &data).into(),
            None => data.concat().into(),
        };
        Tensor { name: tensor.name.clone(), dtype: tensor.dtype, dims, data }
    });
    joined.collect()
}

/// Writes pieces one behind the other into memory of their length.
fn fill<M: DerefMut<Target = [u8]>>(mut memory: M, pieces: &[&[u8]]) -> M {
    let mut left = &mut memory[..];
    for piece in pieces {
        let (place, rest) = left.split_at_mut(piece.len());
        place.copy_from_slice(piece);
        left = rest;
    }
    memory
}

/// Cuts outputs into those of requests with so many rows each. The parts share the outputs' memory.
pub(super) fn split(outputs: Vec<Tensor>, rows: &[u64]) -> Result<Vec<Vec<Tensor>>, RuntimeFailure> {
    let mut parts: Vec<Vec<Tensor>> = rows.iter().map(|_| Vec::with_capacity(outputs.len())).collect();
    let total: u64 = rows.iter().sum();
    for output in outputs {
        let Tensor { name, dtype, dims, data } = output;
        let wrong = || RuntimeFailure::Protocol {
            message: format!("output `{name}` is {dtype}{dims:?}, not {total} rows of equal size"),
        };
        if dims.first() != Some(&total) {
            return Err(wrong());
        }
        let row = elements(&dims[1..]).ok_or_else(wrong)?;
        let bits = row.checked_mul(dtype.bits()).filter(|bits| dtype == DType::String || bits % 8 == 0);
        let row_bytes = bits.ok_or_else(wrong)? / 8;
        let mut left: Bytes = data.into();
        for (part, &rows) in parts.iter_mut().zip(rows) {
            let bytes = match dtype {
                DType::String => text_bytes(&left, rows.checked_mul(row).ok_or_else(wrong)?),
                _ => rows.checked_mul(row_bytes).and_then(|bytes| usize::try_from(bytes).ok()),
            };
            let bytes = bytes.filter(|&bytes| bytes <= left.len()).ok_or_else(wrong)?;
            let mut dims = dims.clone();
            dims[0] = rows;
            part.push(Tensor { name: name.clone(), dtype, dims, data: left.split_to(bytes).into() });
        }
        if !left.is_empty() {
            return Err(wrong());
        }
    }
    Ok(parts)
}

/// Bytes of the first so many strings.
fn text_bytes(bytes: &[u8], count: u64) -> Option<usize> {
    let count = usize::try_from(count).ok()?;
    let mut found = 0;
    let bytes = Texts::new(bytes).take(count).inspect(|_| found += 1).map(|text| text.len() + 4).sum();
    (found == count).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn symbolic(name: &str) -> DimSpec {
        DimSpec::Symbolic { name: name.to_owned(), min: 1, max: 64 }
    }

    fn spec(name: &str, dims: &[DimSpec]) -> TensorSpec {
        TensorSpec { name: name.to_owned(), dtype: DType::F32, dims: dims.to_vec() }
    }

    fn entry(inputs: Vec<TensorSpec>, outputs: Vec<TensorSpec>) -> EntryPoint {
        let peak = ired_module::signature::PeakBytes::Static(0);
        let rows = Rows::Dependent { reason: "rows of output `y` depend on each other".to_owned() };
        EntryPoint { name: "main".to_owned(), function: 0, inputs, outputs, rows, peak }
    }

    fn tensor(name: &str, dtype: DType, dims: &[u64], data: &[u8]) -> Tensor {
        Tensor { name: name.to_owned(), dtype, dims: dims.to_vec(), data: data.to_vec().into() }
    }

    #[test]
    fn a_batch_dimension_is_first_everywhere_and_nowhere_else() {
        let n = || symbolic("N");
        let of = |inputs: &[DimSpec], outputs: &[DimSpec]| {
            max_rows(&entry(vec![spec("x", inputs)], vec![spec("y", outputs)]), true)
        };
        assert_eq!(of(&[n(), symbolic("L")], &[n(), symbolic("L")]), Ok(64));
        let cases = [
            (vec![n()], vec![DimSpec::Static(3)], "output `y` begins with 3, not with a batch dimension"),
            (vec![n()], vec![], "output `y` is a scalar and has no batch dimension"),
            (vec![n()], vec![symbolic("M")], "output `y` begins with `M`, others with `N`"),
            (vec![n(), n()], vec![n()], "input `x` has the batch dimension `N` twice"),
            (vec![n()], vec![n(), symbolic("K")], "output `y` has a size that no input has, `K`"),
        ];
        for (inputs, outputs, expected) in cases {
            assert_eq!(of(&inputs, &outputs), Err(expected.to_owned()));
        }
    }

    #[test]
    fn the_module_says_whether_rows_are_independent() {
        let dims = [symbolic("N"), DimSpec::Symbolic { name: "2*N".to_owned(), min: 2, max: 128 }];
        let mut entry = entry(vec![spec("x", &dims[..1])], vec![spec("y", &dims)]);
        let said = "rows of output `y` depend on each other; if you know better, the parameter \
                    `ired.rows_independent` of the configuration says so";
        assert_eq!(max_rows(&entry, false), Err(said.to_owned()));
        assert_eq!(max_rows(&entry, true), Err("output `y` has a size that no input has, `2*N`".to_owned()));
        entry.outputs[0].dims[1] = symbolic("floordiv(L, 2)");
        entry.rows =
            Rows::Independent { exact: Err("`/fc`: contraction: sums".to_owned()), costs: Vec::new() };
        assert_eq!(max_rows(&entry, false), Ok(64));
    }

    #[test]
    fn only_what_is_exact_is_joined_unasked() {
        let mut entry = entry(vec![spec("x", &[symbolic("N")])], vec![spec("y", &[symbolic("N")])]);
        assert_eq!(unasked_rows(&entry, 64), 0);
        entry.rows =
            Rows::Independent { exact: Err("`/fc`: contraction: sums".to_owned()), costs: Vec::new() };
        assert_eq!(unasked_rows(&entry, 64), 0);
        entry.rows = Rows::Independent { exact: Ok(()), costs: Vec::new() };
        assert_eq!(unasked_rows(&entry, 64), 64);
    }

    #[test]
    fn only_what_differs_in_rows_is_alike() {
        let two = entry(vec![spec("x", &[symbolic("N")]), spec("y", &[symbolic("M")])], Vec::new());
        let with = |other: u64| {
            likeness(&two, &[tensor("x", DType::F32, &[2], &[]), tensor("y", DType::F32, &[other], &[])])
        };
        assert_eq!((with(2), with(3)), ((2, Some([].into())), (2, None)));
        let entry = entry(vec![spec("x", &[symbolic("N"), symbolic("L")])], Vec::new());
        let of = |dtype, dims: &[u64]| likeness(&entry, &[tensor("x", dtype, dims, &[])]);
        assert_eq!(of(DType::F32, &[2, 3]), (2, Some([3].into())));
        assert_eq!(of(DType::F32, &[5, 3]).1, of(DType::F32, &[2, 3]).1);
        assert_ne!(of(DType::F32, &[2, 4]).1, of(DType::F32, &[2, 3]).1);
        assert_eq!(of(DType::F32, &[0, 3]), (0, None));
        assert_eq!(of(DType::I4, &[2, 3]), (2, None), "a row of three halves of a byte");
        assert!(of(DType::I4, &[2, 4]).1.is_some());
    }

    #[test]
    fn what_was_joined_comes_apart_again() {
        let strings = |texts: &[&str]| {
            let mut bytes = Vec::new();
            texts.iter().for_each(|text| assert!(ired_module::texts::push(&mut bytes, text.as_bytes())));
            bytes
        };
        let one = vec![
            tensor("a", DType::I16, &[1, 2], &[1, 2, 3, 4]),
            tensor("s", DType::String, &[1, 2], &strings(&["x", ""])),
        ];
        // Clients may order inputs as they like.
        let two = vec![
            tensor("s", DType::String, &[2, 2], &strings(&["long", "y", "", "z"])),
            tensor("a", DType::I16, &[2, 2], &[5, 6, 7, 8, 9, 10, 11, 12]),
        ];
        let joined = join(&[one.clone(), two.clone()], |_| None::<Vec<u8>>);
        assert_eq!(joined.iter().map(|t| t.dims.clone()).collect::<Vec<_>>(), [[3, 2], [3, 2]]);
        assert_eq!(joined[0].data[..], (1..=12).collect::<Vec<u8>>());
        let given = join(&[one.clone(), two.clone()], |bytes| Some(vec![0xAA; bytes]));
        for (given, joined) in given.iter().zip(&joined) {
            assert_eq!((&given.dims, &given.data[..]), (&joined.dims, &joined.data[..]));
        }
        let parts = split(joined.clone(), &[1, 2]).unwrap();
        for (part, original) in parts.iter().zip([&one, &two]) {
            for tensor in original {
                let found = part.iter().find(|other| other.name == tensor.name).unwrap();
                assert_eq!((&found.dims, &found.data[..]), (&tensor.dims, &tensor.data[..]));
            }
        }
        assert!(split(joined, &[1, 1]).is_err());
    }
}
