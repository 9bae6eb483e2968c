//! Caches that a call updates where they are: compiled scatters write the new rows, and nothing else.

#![allow(unsafe_code, reason = "memory that only some may write to")]

use ired_graph::{Builder, DType, Graph, ReduceFn, ScatterFn, Tensor, parse};
use ired_hal::HostMemory;

use crate::harness::{self, Compiled};

const PAGE: usize = 4096;
/// Numbers of one row.
const ROW: usize = 4;
const ROWS: usize = 3 * PAGE / (ROW * 4);

/// Three pages, of which the middle one alone may be written to.
struct Guarded(*mut u8);

// SAFETY: memory of the value's own.
unsafe impl Send for Guarded {}
// SAFETY: as above; a shared reference gives nothing.
unsafe impl Sync for Guarded {}

impl Guarded {
    fn new(content: &[u8]) -> Self {
        assert_eq!(content.len(), 3 * PAGE);
        let (rights, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: the kernel chooses the range; it is written to within its bounds before its rights are taken.
        unsafe {
            let start = libc::mmap(std::ptr::null_mut(), 3 * PAGE, rights, flags, -1, 0);
            assert_ne!(start, libc::MAP_FAILED);
            start.cast::<u8>().copy_from_nonoverlapping(content.as_ptr(), content.len());
            for page in [0, 2] {
                assert_eq!(libc::mprotect(start.byte_add(page * PAGE), PAGE, libc::PROT_READ), 0);
            }
            Self(start.cast())
        }
    }
}

impl AsMut<[u8]> for Guarded {
    fn as_mut(&mut self) -> &mut [u8] {
        // SAFETY: mapped by `new`, and nobody else's while borrowed. Whoever writes outside of the middle page faults.
        unsafe { std::slice::from_raw_parts_mut(self.0, 3 * PAGE) }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`; nothing refers to it any more.
        unsafe { libc::munmap(self.0.cast(), 3 * PAGE) };
    }
}

/// A cache with rows replaced along its length, and the sums of the new rows.
fn update_and_read() -> Graph {
    let mut graph = parse(
        "graph g {
  symbol length min 1 max 1000000
  body(%0 : f32[1, 1, length, 4], %1 : i64[1, 1, 2], %2 : f32[1, 1, 2, 4]) {
    yield
  }
}",
    )
    .unwrap();
    let (inputs, body) = (graph.inputs().to_vec(), graph.body);
    let mut b = Builder::new(&mut graph);
    let new = b.scatter_along(ScatterFn::Set, inputs[0], inputs[1], inputs[2], 2).unwrap();
    let sums = b.reduce(ReduceFn::Sum, new, &[3], false).unwrap();
    graph.set_outputs(body, vec![new, sums]);
    graph
}

#[test]
fn a_bound_cache_is_written_where_rows_are_new() {
    let graph = update_and_read();
    let compiled = Compiled::new(&graph);
    let start: Vec<f32> = (0..ROWS * ROW).map(|i| i as f32).collect();
    let shape = [1, 1, ROWS as u64, ROW as u64];
    let mut expected = Tensor::from_f32s(&shape, &start);
    let bytes = expected.data().to_vec();
    let cache = compiled.import(HostMemory::writable(Guarded::new(&bytes)), DType::F32, &shape);
    for step in 0..3i64 {
        let at = Tensor::from_i64s(&[1, 1, 2], &[300 + step, 400 - step]);
        let rows: Vec<f32> = (0..2 * ROW).map(|i| -(i as f32) - step as f32).collect();
        let rows = Tensor::from_f32s(&[1, 1, 2, ROW as u64], &rows);
        let reference = harness::reference(&graph, &[expected.clone(), at.clone(), rows.clone()]).unwrap();
        let outputs = compiled.run_into(cache.clone(), &[at, rows], vec![Some(cache.buffer.clone())]);
        harness::compare(&reference, &outputs.unwrap(), 1e-6).unwrap();
        expected = reference[0].clone();
    }
}
