//! Runs one kernel over its grid: for tests of code for machines that this one only emulates.
//!
//! Reads from standard input, numbers as u64 in little-endian order: the image with its length in front; how many blocks of
//! memory the kernel is bound to, then each with its length in front; how many constants, then these as i64; the grid's three
//! sizes. The kernel is named `kernel`. Writes the blocks, as the kernel left them.

#![allow(unsafe_code, reason = "a kernel is called")]

use std::io::{self, Read, Write};

use ired_driver_cpu::loader::LoadedImage;

type Entry = unsafe extern "C" fn(*const *mut u8, *const i64, u32, u32, u32);

/// Blocks start where buffers do.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

fn main() -> io::Result<()> {
    let mut job = Vec::new();
    io::stdin().lock().read_to_end(&mut job)?;
    let mut job = Job { rest: &job };
    let count = job.number()?;
    let image = job.bytes(count)?;
    let image = LoadedImage::load(image).map_err(io::Error::other)?;
    let function =
        image.function("kernel").ok_or_else(|| io::Error::other("the image has no function `kernel`"))?;
    // SAFETY: who made the job says that `kernel` is a kernel, whose type this is.
    let entry = unsafe { std::mem::transmute::<*const u8, Entry>(function) };

    let mut blocks = Vec::new();
    for _ in 0..job.number()? {
        let count = job.number()?;
        let bytes = job.bytes(count)?;
        let mut lines = vec![Line([0; 64]); bytes.len().div_ceil(64)];
        for (line, bytes) in lines.iter_mut().zip(bytes.chunks(64)) {
            line.0[..bytes.len()].copy_from_slice(bytes);
        }
        blocks.push((lines, bytes.len()));
    }
    let constants = (0..job.number()?)
        .map(|_| job.number().map(|number| number as i64))
        .collect::<io::Result<Vec<_>>>()?;
    let [x, y, z] = [job.number()?, job.number()?, job.number()?].map(|number| number as u32);

    // The first line of each block, and the last, are guards.
    let pointers: Vec<_> = blocks.iter_mut().map(|(lines, _)| lines[1..].as_mut_ptr().cast::<u8>()).collect();
    for (z, y, x) in (0..z).flat_map(|z| (0..y).flat_map(move |y| (0..x).map(move |x| (z, y, x)))) {
        // SAFETY: the pointers are of the blocks that the job says the kernel works on, and live.
        unsafe { entry(pointers.as_ptr(), constants.as_ptr(), x, y, z) };
    }

    let mut output = io::stdout().lock();
    for (lines, count) in &blocks {
        let bytes: Vec<u8> = lines.iter().flat_map(|line| line.0).take(*count).collect();
        output.write_all(&bytes)?;
    }
    output.flush()
}

struct Job<'a> {
    rest: &'a [u8],
}

impl<'a> Job<'a> {
    fn bytes(&mut self, count: u64) -> io::Result<&'a [u8]> {
        let split = usize::try_from(count).ok().and_then(|count| self.rest.split_at_checked(count));
        let (bytes, rest) = split.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        self.rest = rest;
        Ok(bytes)
    }

    fn number(&mut self) -> io::Result<u64> {
        let bytes = self.bytes(8)?;
        Ok(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }
}
