//! What crosses the boundary between a parent and its worker: plain data, decoded without trust in the sender.

pub mod compile;
pub mod handshake;
pub mod module;
pub mod runtime;
pub mod sandbox;

use std::error::Error;

/// An error and what caused it, in one line: only text crosses the boundary.
pub fn full_text(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::compile::FromCompiler;
    use super::handshake::{Confined, Hello, Role};
    use super::runtime::FromRuntime;
    use crate::channel::decode_all;

    proptest! {
        /// Whatever a worker sends is a message or an error.
        #[test]
        fn any_bytes_decode_or_fail(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = Hello::check(&bytes, Role::Compile);
            let _ = decode_all::<Confined>(&bytes);
            let _ = decode_all::<FromCompiler>(&bytes);
            let _ = decode_all::<FromRuntime>(&bytes);
        }

        /// Bytes near a message, which random ones hardly ever are.
        #[test]
        fn damaged_messages_decode_or_fail(at in 0usize..200, value in any::<u8>(), cut in 0usize..200) {
            let mut bytes = postcard::to_stdvec(&samples()).expect("encodable");
            let at = at % bytes.len();
            bytes[at] = value;
            let _ = decode_all::<Vec<FromRuntime>>(&bytes);
            bytes.truncate(cut);
            let _ = decode_all::<Vec<FromRuntime>>(&bytes);
        }
    }

    fn samples() -> Vec<FromRuntime> {
        use ired_module::DType;

        use super::runtime::{Answer, Place, RuntimeFailure, TensorRef, Timing};

        let place = Place { region: 3, offset: 4096, len: 48 };
        let output = TensorRef { name: "y".to_owned(), dtype: DType::F32, dims: vec![3, 4], place };
        let answer = Answer::Infer { outputs: vec![output; 3], timing: Timing::default(), profile: None };
        let failure = RuntimeFailure::NoSuchEntry { entry: "a".to_owned(), entries: vec!["b".to_owned(); 5] };
        vec![
            FromRuntime::Region { region: 3, len: 1 << 20 },
            FromRuntime::Answer { id: 7, answer: Ok(answer) },
            FromRuntime::Answer { id: 8, answer: Err(failure) },
        ]
    }

    #[test]
    fn messages_survive_the_way() {
        let bytes = postcard::to_stdvec(&samples()).expect("encodable");
        assert_eq!(decode_all::<Vec<FromRuntime>>(&bytes).expect("decodable"), samples());
    }
}
