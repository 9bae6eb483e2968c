//! NumPy's strings: all elements of one width, filled up with zeros.

use std::io::Read;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use ired_module::DType;
use ired_module::texts::{self, Texts};
use npyz::{Endianness, NpyHeader, Order, TypeChar};

use super::{MAX_BYTES, column_to_row_major};
use crate::tensors::NamedTensor;

/// What the elements of an array of strings are made of.
pub(super) struct Units {
    /// Four bytes each, code points; otherwise bytes.
    wide: bool,
    big_endian: bool,
    /// Of one element.
    count: u64,
}

/// `None` for arrays of something else.
pub(super) fn units(header: &NpyHeader) -> Option<Units> {
    let npyz::DType::Plain(ty) = header.dtype() else { return None };
    let wide = match ty.type_char() {
        TypeChar::UnicodeStr => true,
        TypeChar::ByteStr => false,
        _ => return None,
    };
    Some(Units { wide, big_endian: ty.endianness() == Endianness::Big, count: ty.size_field() })
}

pub(super) fn read(
    name: &str,
    header: &NpyHeader,
    units: &Units,
    reader: &mut impl Read,
    limit_bytes: u64,
) -> Result<NamedTensor> {
    let dims = header.shape().to_vec();
    let elements = texts::elements(&dims).context("its size overflows")?;
    let width = units.count.checked_mul(if units.wide { 4 } else { 1 });
    let expected = width.and_then(|width| elements.checked_mul(width)).context("its size overflows")?;
    // Each string takes its length besides.
    let taken = elements.checked_mul(4).and_then(|lengths| lengths.checked_add(expected));
    ensure!(
        taken.is_some_and(|bytes| bytes <= limit_bytes),
        "it has {elements} strings of {} each; the arrays of one archive may take {MAX_BYTES} bytes together",
        units.count
    );
    let mut found = Vec::new();
    reader.take(expected.saturating_add(1)).read_to_end(&mut found)?;
    ensure!(found.len() as u64 == expected, "{} bytes of data where {expected} belong", found.len());
    let width = width.unwrap_or(0) as usize;
    if header.order() == Order::Fortran && width > 0 {
        found = column_to_row_major(&found, &dims, width);
    }
    let mut data = Vec::new();
    for at in 0..elements as usize {
        let element = &found[at * width..(at + 1) * width];
        let text =
            if units.wide { code_points(element, units.big_endian)?.into_bytes() } else { element.to_vec() };
        let end = text.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        ensure!(texts::push(&mut data, &text[..end]), "a string of {end} bytes");
    }
    Ok(NamedTensor { name: name.to_owned(), dtype: DType::String, dims, data: data.into() })
}

fn code_points(element: &[u8], big_endian: bool) -> Result<String> {
    let point = |bytes: &[u8; 4]| {
        let number = if big_endian { u32::from_be_bytes(*bytes) } else { u32::from_le_bytes(*bytes) };
        char::from_u32(number).with_context(|| format!("{number:#x} is no character"))
    };
    element.as_chunks().0.iter().map(point).collect()
}

/// NumPy's name of the type, and the elements.
pub(super) fn encode(tensor: &NamedTensor) -> Result<(String, Bytes)> {
    let texts: Vec<&str> = Texts::new(&tensor.data)
        .map(std::str::from_utf8)
        .collect::<Result<_, _>>()
        .context("not all are UTF-8")?;
    // NumPy takes zeros at the end for filling.
    ensure!(!texts.iter().any(|text| text.ends_with('\0')), "one ends with a zero, which NumPy would drop");
    let longest = texts.iter().map(|text| text.chars().count()).max().unwrap_or(0).max(1);
    let bytes = (longest as u64).saturating_mul(4).saturating_mul(texts.len() as u64);
    ensure!(bytes <= MAX_BYTES, "they take {bytes} bytes at one width; at most {MAX_BYTES}");
    let mut data = Vec::with_capacity(bytes as usize);
    for text in texts {
        let end = data.len() + longest * 4;
        data.extend(text.chars().flat_map(|c| u32::from(c).to_le_bytes()));
        data.resize(end, 0);
    }
    Ok((format!("<U{longest}"), data.into()))
}
