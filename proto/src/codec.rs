//! Prost's codec with a bound on what a message unfolds to.
//!
//! Two bytes can be an empty message in a list, which takes some hundred when it is decoded: the size of a request alone
//! does not bound the memory it takes. The fields on its outermost level do, as whatever lies deeper has its bytes.

use std::marker::PhantomData;

use bytes::Buf;
use prost::Message;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder};
use tonic_prost::ProstCodec;

/// Fields on the outermost level of one message: more than a request for any model has.
const FIELDS: usize = 1 << 16;

/// What the services' stubs encode and decode by.
#[derive(Debug)]
pub struct BoundedCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for BoundedCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T: Message + 'static, U: Message + Default + 'static> Codec for BoundedCodec<T, U> {
    type Encode = T;
    type Decode = U;
    type Encoder = <ProstCodec<T, U> as Codec>::Encoder;
    type Decoder = BoundedDecoder<<ProstCodec<T, U> as Codec>::Decoder>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::default().encoder()
    }

    fn decoder(&mut self) -> Self::Decoder {
        BoundedDecoder(ProstCodec::<T, U>::default().decoder())
    }
}

/// Counts a message's fields before it decodes it.
#[derive(Debug)]
pub struct BoundedDecoder<D>(D);

impl<D: Decoder<Error = Status>> Decoder for BoundedDecoder<D> {
    type Item = D::Item;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<D::Item>, Status> {
        if has_more_fields(source.chunk(), FIELDS) {
            return Err(Status::resource_exhausted(format!("a message with more than {FIELDS} fields")));
        }
        self.0.decode(source)
    }

    fn buffer_settings(&self) -> tonic::codec::BufferSettings {
        self.0.buffer_settings()
    }
}

/// Whether a message has more than `limit` fields on its outermost level. What is malformed is left to the decoder.
fn has_more_fields(mut message: &[u8], limit: usize) -> bool {
    for _ in 0..=limit {
        if message.is_empty() {
            return false;
        }
        let Some(rest) = after_field(message) else { return false };
        message = rest;
    }
    true
}

fn after_field(message: &[u8]) -> Option<&[u8]> {
    let (tag, rest) = varint(message)?;
    match tag & 7 {
        0 => varint(rest).map(|(_, rest)| rest),
        1 => rest.get(8..),
        2 => {
            let (length, rest) = varint(rest)?;
            rest.get(usize::try_from(length).ok()?..)
        }
        5 => rest.get(4..),
        // Groups, which these protocols have none of, one by one.
        3 | 4 => Some(rest),
        _ => None,
    }
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let last = bytes.iter().take(10).position(|byte| byte & 0x80 == 0)?;
    let (number, rest) = bytes.split_at(last + 1);
    let bits = |value: u64, (at, byte): (usize, &u8)| {
        value | u64::from(byte & 0x7f).checked_shl(7 * at as u32).unwrap_or(0)
    };
    Some((number.iter().enumerate().fold(0, bits), rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inference::model_infer_request::InferInputTensor;
    use crate::inference::{InferTensorContents, ModelInferRequest};

    fn message(inputs: usize) -> Vec<u8> {
        let contents = InferTensorContents { int_contents: vec![-1; 1000], ..Default::default() };
        let input = InferInputTensor { name: "x".to_owned(), contents: Some(contents), ..Default::default() };
        let request =
            ModelInferRequest { id: "1".to_owned(), inputs: vec![input; inputs], ..Default::default() };
        request.encode_to_vec()
    }

    #[test]
    fn only_outermost_fields_are_counted() {
        assert!(!has_more_fields(&message(9), 10));
        assert!(has_more_fields(&message(10), 10));
        assert!(!has_more_fields(&[], 0));
    }

    #[test]
    fn a_flood_of_empty_messages_is_found() {
        // Field 5, a message of no bytes.
        let flood = [0x2a, 0].repeat(FIELDS + 1);
        assert!(has_more_fields(&flood, FIELDS));
        assert!(!has_more_fields(&flood[2..], FIELDS));
    }

    #[test]
    fn what_is_cut_short_is_left_to_the_decoder() {
        for message in [
            &[0x2a][..],
            &[0x2a, 5, 0],
            &[0x80; 20],
            &[0x2a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
        ] {
            assert!(
                !has_more_fields(message, 0) && ModelInferRequest::decode(message).is_err(),
                "{message:?}"
            );
        }
    }
}
