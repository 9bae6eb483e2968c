//! The executables phase: every kernel compiled to an object, several at a time, each different one once, and all
//! linked into one image.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::errors::Diagnostic;
use crate::program::Executable;
use crate::targets::{CpuTarget, compile_executable};

/// Objects of kernels compiled before, by the hash of source and target.
pub trait ObjectCache: Sync {
    fn get(&self, key: &[u8; 32]) -> Option<Vec<u8>>;
    fn put(&self, key: [u8; 32], object: &[u8]);
}

/// A cache that lives as long as the process.
#[derive(Debug, Default)]
pub struct MemoryCache {
    objects: Mutex<HashMap<[u8; 32], Vec<u8>>>,
}

impl ObjectCache for MemoryCache {
    fn get(&self, key: &[u8; 32]) -> Option<Vec<u8>> {
        self.objects.lock().ok()?.get(key).cloned()
    }

    fn put(&self, key: [u8; 32], object: &[u8]) {
        if let Ok(mut objects) = self.objects.lock() {
            objects.insert(key, object.to_vec());
        }
    }
}

/// Compiles and links. `progress` hears how many are done, from whichever thread finished one.
///
/// # Errors
/// One diagnostic a kernel that does not compile, or the linker's.
pub(crate) fn build_image(
    executables: &[Executable],
    target: &CpuTarget,
    threads: usize,
    cache: &dyn ObjectCache,
    progress: &mut (dyn FnMut(usize) + Send),
) -> Result<Vec<u8>, Vec<Diagnostic>> {
    if executables.is_empty() {
        return Ok(Vec::new());
    }
    let objects = compile_all(executables, target, threads, cache, progress)?;
    let symbols: Vec<String> = executables.iter().map(|e| e.symbol.clone()).collect();
    ired_mlir::link(&objects, &symbols).map_err(|e| vec![Diagnostic::internal("cannot link the kernels", &e)])
}

/// An object, or why there is none.
type Compiled = Result<Vec<u8>, Diagnostic>;

fn compile_all(
    executables: &[Executable],
    target: &CpuTarget,
    threads: usize,
    cache: &dyn ObjectCache,
    progress: &mut (dyn FnMut(usize) + Send),
) -> Result<Vec<Vec<u8>>, Vec<Diagnostic>> {
    // The longest sources start first, so that no thread is left alone with one at the end.
    let mut order: Vec<usize> = (0..executables.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(executables[i].source.len()));
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let results: Mutex<Vec<Option<Compiled>>> = Mutex::new(executables.iter().map(|_| None).collect());
    let done = Mutex::new((0usize, progress));
    let work = || {
        while !failed.load(Ordering::Relaxed) {
            let Some(&index) = order.get(next.fetch_add(1, Ordering::Relaxed)) else { break };
            let outcome = compile_one(&executables[index], target, cache);
            failed.fetch_or(outcome.is_err(), Ordering::Relaxed);
            if let Ok(mut results) = results.lock() {
                results[index] = Some(outcome);
            }
            if let Ok(mut done) = done.lock() {
                done.0 += 1;
                let count = done.0;
                (done.1)(count);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.clamp(1, executables.len()) {
            scope.spawn(work);
        }
        work();
    });
    let results = results.into_inner().unwrap_or_default();
    let (mut objects, mut problems) = (Vec::with_capacity(results.len()), Vec::new());
    for result in results {
        match result {
            Some(Ok(object)) => objects.push(object),
            Some(Err(problem)) => problems.push(problem),
            // Not reached because another failed.
            None => {}
        }
    }
    if problems.is_empty() { Ok(objects) } else { Err(problems) }
}

fn compile_one(executable: &Executable, target: &CpuTarget, cache: &dyn ObjectCache) -> Compiled {
    let mut hasher = blake3::Hasher::new();
    hasher.update(target.to_string().as_bytes());
    hasher.update(&[0]);
    hasher.update(executable.source.as_bytes());
    let key = *hasher.finalize().as_bytes();
    if let Some(object) = cache.get(&key) {
        return Ok(object);
    }
    let object = compile_executable(executable.source.as_bytes(), target).map_err(|e| {
        Diagnostic::internal(&format!("cannot compile kernel `{}`", executable.symbol), &e)
            .at(executable.origin.clone())
    })?;
    cache.put(key, &object);
    Ok(object)
}
