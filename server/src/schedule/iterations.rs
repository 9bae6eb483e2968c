//! When a request that is run again and again is over.

use ired_worker::{RuntimeFailure, Tensor};

/// What ends a request that is run again and again; one of the two at least is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Iterations {
    pub last: Option<LastOutput>,
    /// Runs at most.
    pub max: Option<u64>,
}

/// An output that says of a run whether it is the last one, by elements that are all true, or not 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastOutput {
    pub name: String,
    /// Answers have it, too.
    pub answered: bool,
}

impl Iterations {
    /// True for an output that no answer has.
    pub fn keep(&self, output: &str) -> bool {
        self.last.as_ref().is_some_and(|last| last.name == output && !last.answered)
    }

    /// Whether a run with these outputs says that it is the last one.
    ///
    /// # Errors
    /// [`RuntimeFailure::Protocol`] where the output that says it is not there.
    pub fn are_over(&self, outputs: &[Tensor]) -> Result<bool, RuntimeFailure> {
        let Some(LastOutput { name, .. }) = &self.last else { return Ok(false) };
        let missing = || RuntimeFailure::Protocol { message: format!("the worker gave no output `{name}`") };
        let found = outputs.iter().find(|tensor| tensor.name == *name).ok_or_else(missing)?;
        let element_bytes = usize::try_from(found.dtype.bits() / 8).unwrap_or(1).max(1);
        Ok(found.data.chunks(element_bytes).all(|element| element.iter().any(|&byte| byte != 0)))
    }
}

#[cfg(test)]
mod tests {
    use ired_module::DType;

    use super::*;

    #[test]
    fn the_last_run_is_that_of_all_rows() {
        let last = LastOutput { name: "last".to_owned(), answered: false };
        let iterations = Iterations { last: Some(last), max: None };
        let says = |dtype, data: &[u8]| {
            let dims = vec![data.len() as u64 * 8 / DType::bits(dtype)];
            iterations.are_over(&[Tensor {
                name: "last".to_owned(),
                dtype,
                dims,
                data: data.to_vec().into(),
            }])
        };
        assert!(matches!(says(DType::Bool, &[1, 0]), Ok(false)));
        assert!(matches!(says(DType::Bool, &[1, 1]), Ok(true)));
        assert!(matches!(says(DType::I32, &[0, 1, 0, 0, 0, 0, 0, 0]), Ok(false)));
        assert!(matches!(says(DType::I32, &[0, 1, 0, 0, 0, 0, 0, 128]), Ok(true)));
        assert!(matches!(says(DType::Bool, &[]), Ok(true)), "nobody has anything to wait for");
        assert!(iterations.are_over(&[]).is_err());
    }
}
