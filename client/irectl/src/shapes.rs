//! `--shape NAME=2x3x?`: what is known of the shape of an input besides what the model says.

use std::path::Path;

use anyhow::Result;

use crate::tensors::{onnx_data, onnx_model};

/// An input and a size for each axis; `None` for one that the model says or that varies.
pub(crate) type InputShape = (String, Vec<Option<u64>>);

#[derive(clap::Args, Clone)]
pub(crate) struct Shapes {
    /// The shape of an input of which the model does not say it, `?` for a size that varies: `x=2x3x?`; `x=` is a
    /// scalar.
    #[arg(long = "shape", value_name = "NAME=SIZES", value_parser = parse)]
    pub(crate) shapes: Vec<InputShape>,
}

fn parse(text: &str) -> Result<InputShape, String> {
    let (name, sizes) = text.rsplit_once('=').ok_or("expected `NAME=SIZES`, such as `x=2x3x?`")?;
    let size = |size: &str| match size {
        "?" => Ok(None),
        size => size.parse().map(Some).map_err(|_| format!("`{size}` is neither a size nor `?`")),
    };
    let sizes =
        if sizes.is_empty() { Vec::new() } else { sizes.split('x').map(size).collect::<Result<_, _>>()? };
    Ok((name.to_owned(), sizes))
}

/// The ranks of those inputs of an ONNX model of which it does not say them, as `set`, a data set of a test case, has
/// them.
pub(crate) fn of_data(model: &Path, set: &Path) -> Result<Vec<InputShape>> {
    let unknown = onnx_model::inputs_of_unknown_rank(model)?;
    let shape = |(number, name): (usize, String)| {
        let tensor = onnx_data::read(&set.join(format!("input_{number}.pb")))?;
        Ok((name, vec![None; tensor.dims.len()]))
    };
    unknown.into_iter().map(shape).collect()
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn sizes_are_numbers_or_left_open() {
        assert_eq!(parse("x=2x?x0"), Ok(("x".to_owned(), vec![Some(2), None, Some(0)])));
        assert_eq!(parse("a=b="), Ok(("a=b".to_owned(), vec![])));
        for wrong in ["x", "x=2x", "x=N", "x=-1"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
