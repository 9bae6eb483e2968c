//! What these threads can do at most, measured: multiply-adds that stay in registers, and a read of more memory than
//! caches hold. Only for processors that there is a loop for.

#![allow(unsafe_code, reason = "calls functions compiled for features that were looked for")]

use std::hint::black_box;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use ired_hal::Peak;

/// Sums that do not wait for each other: more than multiply-adds are under way at once, fewer than there are registers.
const CHAINS: usize = 12;
/// Elements of one sum, where they are that many; where fewer, there are as many more steps.
const LANES: usize = 16;
/// Less work than a thread gets done before the system gives its processor to another.
const STEPS: usize = 400_000;
/// Read by all threads together, a part in each round.
const STREAM_BYTES: usize = 256 << 20;
const PARTS: usize = 16;
/// The fastest counts: the machine has other things to do.
const ROUNDS: usize = 4 * PARTS;

/// Measures, which takes tenths of a second.
pub(crate) fn measure(threads: u32) -> Peak {
    let threads = threads.max(1) as usize;
    let compute = fastest(
        threads,
        || (),
        |(), _| {
            variants::multiply_adds(black_box(1.0));
        },
    );
    let words = STREAM_BYTES / 8 / PARTS / threads;
    let stream = fastest(
        threads,
        || vec![1u64; words * PARTS],
        |data, round| {
            let part = &data[round % PARTS * words..][..words];
            black_box(variants::sum(black_box(part)));
        },
    );
    let rate = |amount: usize, time: Duration| (amount as f64 / time.as_secs_f64()) as u64;
    Peak {
        operations_per_second: rate(2 * STEPS * CHAINS * LANES * threads, compute),
        bytes_per_second: rate(words * 8 * threads, stream),
    }
}

/// The shortest time from when all threads begin `work` to when all have done it.
fn fastest<T>(threads: usize, prepare: impl Fn() -> T + Sync, work: impl Fn(&T, usize) + Sync) -> Duration {
    let barrier = Barrier::new(threads);
    let run = || {
        let data = prepare();
        (0..ROUNDS)
            .map(|round| {
                barrier.wait();
                let start = Instant::now();
                work(&data, round);
                barrier.wait();
                start.elapsed()
            })
            .min()
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(run);
        }
        run().unwrap_or_default().max(Duration::from_nanos(1))
    })
}

/// Vectors, several at once, when it is compiled for a processor that has them.
#[inline(always)]
fn sum_here(data: &[u64]) -> u64 {
    data.iter().fold(0, |sum, word| sum.wrapping_add(*word))
}

mod variants {
    use std::arch::x86_64::{
        _mm_add_ps, _mm_mul_ps, _mm_set1_ps, _mm256_fmadd_ps, _mm256_set1_ps, _mm512_fmadd_ps, _mm512_set1_ps,
    };
    use std::hint::black_box;

    use super::{CHAINS, STEPS, sum_here};

    #[target_feature(enable = "avx512f")]
    fn multiply_adds_avx512(x: f32) {
        let x = _mm512_set1_ps(x);
        let mut sums = [x; CHAINS];
        for _ in 0..STEPS {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(*sum, x, x);
            }
        }
        black_box(sums);
    }

    #[target_feature(enable = "avx,fma")]
    fn multiply_adds_fma(x: f32) {
        let x = _mm256_set1_ps(x);
        let mut sums = [x; CHAINS];
        for _ in 0..STEPS * 2 {
            for sum in &mut sums {
                *sum = _mm256_fmadd_ps(*sum, x, x);
            }
        }
        black_box(sums);
    }

    /// A multiplication and an addition, as every such machine has them.
    #[target_feature(enable = "sse")]
    fn multiply_adds_sse(x: f32) {
        let x = _mm_set1_ps(x);
        let mut sums = [x; CHAINS];
        for _ in 0..STEPS * 4 {
            for sum in &mut sums {
                *sum = _mm_add_ps(_mm_mul_ps(*sum, x), x);
            }
        }
        black_box(sums);
    }

    pub(super) fn multiply_adds(x: f32) {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: this machine has AVX-512F.
            unsafe { multiply_adds_avx512(x) }
        } else if is_x86_feature_detected!("avx") && is_x86_feature_detected!("fma") {
            // SAFETY: this machine has AVX and FMA.
            unsafe { multiply_adds_fma(x) }
        } else {
            // SAFETY: every x86-64 processor has SSE.
            unsafe { multiply_adds_sse(x) }
        }
    }

    #[target_feature(enable = "avx2")]
    fn sum_avx2(data: &[u64]) -> u64 {
        sum_here(data)
    }

    pub(super) fn sum(data: &[u64]) -> u64 {
        if is_x86_feature_detected!("avx2") {
            // SAFETY: this machine has AVX2.
            unsafe { sum_avx2(data) }
        } else {
            sum_here(data)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::{ROUNDS, fastest, variants};

    #[test]
    fn every_thread_works_in_every_round() {
        let work = AtomicUsize::new(0);
        let took = fastest(
            3,
            || (),
            |(), _| {
                work.fetch_add(1, Ordering::Relaxed);
            },
        );
        assert_eq!(work.into_inner(), 3 * ROUNDS);
        assert!(!took.is_zero());
    }

    #[test]
    fn all_is_read() {
        assert_eq!(variants::sum(&[3; 1001]), 3003);
    }
}
