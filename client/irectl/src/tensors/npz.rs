//! NumPy's `.npz`: a zip of `.npy` arrays, keyed by tensor name.

mod strings;

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use ired_module::DType;
use npyz::{NpyHeader, Order, TypeChar, WriterBuilder};

use super::NamedTensor;
use crate::exit::printable;
use crate::local::open_file;

/// What all arrays that are read from one archive may take together: an archive of some megabytes can hold terabytes of
/// zeros.
const MAX_BYTES: u64 = 16 << 30;

/// An archive whose arrays are read when they are asked for.
pub(crate) struct Archive {
    archive: zip::ZipArchive<BufReader<File>>,
    path: PathBuf,
}

impl Archive {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = open_file(path)?;
        let archive = zip::ZipArchive::new(BufReader::new(file))
            .with_context(|| format!("`{}` is not an npz archive", path.display()))?;
        Ok(Self { archive, path: path.to_owned() })
    }

    /// Reads every array, in the archive's order.
    pub(crate) fn read_all(self) -> Result<Vec<NamedTensor>> {
        self.read(|_| true)
    }

    /// Reads the arrays that have one of these names, in the archive's order; warns of every other, which is not read.
    pub(crate) fn read_named<'n>(self, names: impl IntoIterator<Item = &'n str>) -> Result<Vec<NamedTensor>> {
        let names: HashSet<&str> = names.into_iter().collect();
        let path = self.path.clone();
        self.read(|name| {
            let takes = names.contains(name);
            if !takes {
                let name = printable(name);
                eprintln!(
                    "warning: array `{name}` of `{}` is not used: the model has no such tensor",
                    path.display()
                );
            }
            takes
        })
    }

    fn read(mut self, wants: impl Fn(&str) -> bool) -> Result<Vec<NamedTensor>> {
        let mut tensors = Vec::new();
        let mut bytes_left = MAX_BYTES;
        for i in 0..self.archive.len() {
            let mut entry = self.archive.by_index(i)?;
            let Some(name) = entry.name()?.strip_suffix(".npy").map(str::to_owned) else { continue };
            if !wants(&name) {
                continue;
            }
            let tensor = read_array(&name, &mut entry, bytes_left);
            let tensor = tensor.with_context(|| format!("array `{name}` of `{}`", self.path.display()))?;
            bytes_left -= tensor.data.len() as u64;
            tensors.push(tensor);
        }
        Ok(tensors)
    }
}

/// Reads one array that takes at most `limit_bytes`.
fn read_array(name: &str, reader: &mut impl Read, limit_bytes: u64) -> Result<NamedTensor> {
    let header = read_header(reader)?;
    if let Some(units) = strings::units(&header) {
        return strings::read(name, &header, &units, reader, limit_bytes);
    }
    let (dtype, big_endian) = element_type(&header)?;
    let dims = header.shape().to_vec();
    let expected = dtype.tensor_bytes(&dims).context("its size overflows")?;
    ensure!(
        expected <= limit_bytes,
        "it has {expected} bytes; the arrays of one archive may take {MAX_BYTES} together"
    );
    let mut data = Vec::new();
    reader.take(expected.saturating_add(1)).read_to_end(&mut data)?;
    ensure!(data.len() as u64 == expected, "{} bytes of data where {expected} belong", data.len());
    let width = (dtype.bits() / 8) as usize;
    if big_endian {
        // Of a complex number each part by itself.
        let word = if matches!(dtype, DType::C64 | DType::C128) { width / 2 } else { width };
        data.chunks_exact_mut(word).for_each(<[u8]>::reverse);
    }
    if header.order() == Order::Fortran {
        data = column_to_row_major(&data, &dims, width);
    }
    Ok(NamedTensor { name: name.to_owned(), dtype, dims, data: Bytes::from(data) })
}

/// Reads the header of an array.
///
/// Its text is looked over first: the time to parse nested brackets doubles with each level, and a tensor's header has
/// two levels of them.
fn read_header(reader: &mut impl Read) -> Result<NpyHeader> {
    const PREFIX: &[u8] = b"\x93NUMPY";
    const MAX_BYTES: usize = 1 << 16;
    const MAX_DEPTH: usize = 4;

    let mut start = [0; 8];
    reader.read_exact(&mut start).context("it ends inside its header")?;
    ensure!(start.starts_with(PREFIX), "it does not begin as an npy file");
    // Version 1 has two bytes of length, later ones four.
    let mut length = [0; 4];
    let width = if start[6] == 1 { 2 } else { 4 };
    reader.read_exact(&mut length[..width]).context("it ends inside its header")?;
    let bytes = u32::from_le_bytes(length) as usize;
    ensure!(bytes <= MAX_BYTES, "its header has {bytes} bytes; expected at most {MAX_BYTES}");
    let mut text = vec![0; bytes];
    reader.read_exact(&mut text).context("it ends inside its header")?;
    let mut depth = 0usize;
    for byte in &text {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        ensure!(depth <= MAX_DEPTH, "its header nests brackets deeper than {MAX_DEPTH}");
    }
    Ok(NpyHeader::from_reader(&mut start.chain(&length[..width]).chain(&text[..]))?)
}

/// The element type, and whether the bytes are in big-endian order.
fn element_type(header: &NpyHeader) -> Result<(DType, bool)> {
    let npyz::DType::Plain(ty) = header.dtype() else { bail!("records are not tensors") };
    let dtype = match (ty.type_char(), ty.size_field()) {
        (TypeChar::Bool, 1) => DType::Bool,
        (TypeChar::Int, 1) => DType::I8,
        (TypeChar::Int, 2) => DType::I16,
        (TypeChar::Int, 4) => DType::I32,
        (TypeChar::Int, 8) => DType::I64,
        (TypeChar::Uint, 1) => DType::U8,
        (TypeChar::Uint, 2) => DType::U16,
        (TypeChar::Uint, 4) => DType::U32,
        (TypeChar::Uint, 8) => DType::U64,
        (TypeChar::Float, 2) => DType::F16,
        (TypeChar::Float, 4) => DType::F32,
        (TypeChar::Float, 8) => DType::F64,
        (TypeChar::Complex, 8) => DType::C64,
        (TypeChar::Complex, 16) => DType::C128,
        _ => bail!("elements of type `{ty}` are not supported"),
    };
    Ok((dtype, ty.endianness() == npyz::Endianness::Big))
}

fn column_to_row_major(data: &[u8], dims: &[u64], width: usize) -> Vec<u8> {
    let mut strides = Vec::with_capacity(dims.len());
    let mut stride = 1;
    for &dim in dims {
        strides.push(stride);
        stride *= dim as usize;
    }
    let mut result = Vec::with_capacity(data.len());
    let mut index = vec![0u64; dims.len()];
    for _ in 0..data.len() / width {
        let offset: usize = index.iter().zip(&strides).map(|(&i, s)| i as usize * s).sum();
        result.extend_from_slice(&data[offset * width..][..width]);
        for axis in (0..dims.len()).rev() {
            index[axis] += 1;
            if index[axis] < dims[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
    result
}

/// Writes the tensors, uncompressed, each under its name.
pub(crate) fn write(path: &Path, tensors: &[NamedTensor]) -> Result<()> {
    let file = File::create(path).with_context(|| format!("cannot create `{}`", path.display()))?;
    let mut archive = zip::ZipWriter::new(BufWriter::new(file));
    let options = zip::write::SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::Stored)
        .large_file(true);
    for tensor in tensors {
        archive.start_file(format!("{}.npy", tensor.name), options)?;
        let (ty, data) = match tensor.dtype {
            DType::String => {
                strings::encode(tensor).with_context(|| format!("strings of `{}`", tensor.name))?
            }
            dtype => {
                let ty = type_string(dtype)
                    .with_context(|| format!("NumPy has no type for `{}` ({dtype})", tensor.name))?;
                (ty.to_owned(), tensor.data.clone())
            }
        };
        npyz::WriteOptions::new_header_only()
            .dtype(npyz::DType::new_scalar(ty.parse()?))
            .shape(&tensor.dims)
            .writer(&mut archive)
            .write_header_only()?;
        archive.write_all(&data)?;
    }
    archive.finish()?.flush().with_context(|| format!("cannot write `{}`", path.display()))
}

fn type_string(dtype: DType) -> Option<&'static str> {
    Some(match dtype {
        DType::Bool => "|b1",
        DType::I8 => "|i1",
        DType::I16 => "<i2",
        DType::I32 => "<i4",
        DType::I64 => "<i8",
        DType::U8 => "|u1",
        DType::U16 => "<u2",
        DType::U32 => "<u4",
        DType::U64 => "<u8",
        DType::F16 => "<f2",
        DType::F32 => "<f4",
        DType::F64 => "<f8",
        DType::C64 => "<c8",
        DType::C128 => "<c16",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let tensors = vec![
            NamedTensor {
                name: "a.0/b".into(),
                dtype: DType::F32,
                dims: vec![2, 1],
                data: Bytes::from_static(&[0, 0, 128, 63, 0, 0, 0, 64]),
            },
            NamedTensor { name: "empty".into(), dtype: DType::I64, dims: vec![0, 3], data: Bytes::new() },
            NamedTensor {
                name: "scalar".into(),
                dtype: DType::Bool,
                dims: vec![],
                data: Bytes::from_static(&[1]),
            },
        ];
        let file = tempfile::NamedTempFile::new().unwrap();
        write(file.path(), &tensors).unwrap();
        let open = || Archive::open(file.path()).unwrap();
        assert_eq!(open().read_all().unwrap(), tensors);
        assert_eq!(open().read_named(["scalar", "other"]).unwrap(), tensors[2..]);
    }

    #[test]
    fn headers_that_take_long_to_parse_are_refused() {
        let array = |header: &str| {
            let length = (header.len() as u16).to_le_bytes();
            [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes()].concat()
        };
        for header in ["{".repeat(400), "([".repeat(400)] {
            let error = read_array("x", &mut &array(&header)[..], 0).unwrap_err().to_string();
            assert_eq!(error, "its header nests brackets deeper than 4");
        }
        let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (0,), }\n";
        assert_eq!(read_array("x", &mut &array(header)[..], 0).unwrap().dims, [0]);
        assert!(read_array("x", &mut &array(header)[..20], 0).is_err());
    }

    #[test]
    fn arrays_that_are_too_large_or_not_wanted_are_not_inflated() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut archive = zip::ZipWriter::new(file.reopen().unwrap());
        archive.start_file("bomb.npy", zip::write::SimpleFileOptions::default()).unwrap();
        let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776,), }\n";
        let length = (header.len() as u16).to_le_bytes();
        archive.write_all(&[b"\x93NUMPY\x01\x00", &length[..], header.as_bytes()].concat()).unwrap();
        archive.finish().unwrap();
        let open = || Archive::open(file.path()).unwrap();
        let error = format!("{:#}", open().read_named(["bomb"]).unwrap_err());
        let expected = "it has 4398046511104 bytes; the arrays of one archive may take 17179869184 together";
        assert!(error.ends_with(expected), "{error}");
        assert_eq!(open().read_named(["x"]).unwrap(), []);
    }

    #[test]
    fn complex_numbers_are_read_of_either_byte_order() {
        let array = |ty: &str, data: &[u8]| {
            let header = format!("{{'descr': '{ty}', 'fortran_order': False, 'shape': (1,), }}\n");
            let length = (header.len() as u16).to_le_bytes();
            [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes(), data].concat()
        };
        let read = |ty: &str, data: &[u8]| read_array("x", &mut &array(ty, data)[..], 64).unwrap();
        let (re, im) = (1.5f32, -2.0f32);
        let little = read("<c8", &[re.to_le_bytes(), im.to_le_bytes()].concat());
        assert_eq!((little.dtype, &little.dims[..]), (DType::C64, &[1][..]));
        assert_eq!(little, read(">c8", &[re.to_be_bytes(), im.to_be_bytes()].concat()));
        assert_eq!(read("<c16", &[7; 16]).dtype, DType::C128);
        let file = tempfile::NamedTempFile::new().unwrap();
        write(file.path(), std::slice::from_ref(&little)).unwrap();
        assert_eq!(Archive::open(file.path()).unwrap().read_all().unwrap(), [little]);
    }

    #[test]
    fn column_major_data_is_turned() {
        // [[1, 2, 3], [4, 5, 6]] by columns.
        assert_eq!(column_to_row_major(&[1, 4, 2, 5, 3, 6], &[2, 3], 1), [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn a_file_that_is_no_archive_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"not a zip").unwrap();
        let error = format!("{:#}", Archive::open(file.path()).err().unwrap());
        assert!(error.contains("is not an npz archive"), "{error}");
    }
}
