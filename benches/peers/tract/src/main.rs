//! tract as a process that answers bursts, as `irectl bench --worker` does: `tract-peer MODEL INPUTS THREADS`.

use std::fs::File;
use std::io::{BufRead, Write};
use std::time::Instant;

use anyhow::{Context, Result};
use ndarray::{IxDyn, OwnedRepr};
use ndarray_npy::NpzReader;
use serde_json::json;
use tract_linalg::multithread::{Executor, set_default_executor};
use tract_onnx::prelude::*;

fn main() -> Result<()> {
    let [model, inputs, threads] = arguments()?;
    let threads: usize = threads.parse().context("THREADS is no number")?;
    if threads > 1 {
        set_default_executor(Executor::multithread(threads));
    }
    let start = Instant::now();
    let mut model = tract_onnx::onnx()
        .with_ignore_output_shapes(true)
        .with_ignore_value_info(true)
        .model_for_path(model)?;
    let mut archive = NpzReader::new(File::open(inputs)?)?;
    let mut feeds: TVec<TValue> = tvec!();
    for index in 0..model.input_outlets()?.len() {
        let name = model.node(model.input_outlets()?[index].node).name.clone();
        let tensor = read(&mut archive, &name).with_context(|| format!("no input `{name}`"))?;
        model.set_input_fact(index, InferenceFact::dt_shape(tensor.datum_type(), tensor.shape()))?;
        feeds.push(tensor.into_tvalue());
    }
    let plan = model.into_optimized()?.into_runnable()?;
    let load_ms = start.elapsed().as_secs_f64() * 1e3;
    plan.run(feeds.clone())?;
    answer(&json!({
        "event": "ready", "load_ms": load_ms, "rss_kb": peak_rss_kb(), "version": "0.23.9",
    }))?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let ["run", most, budget_ms] = words.as_slice() else { break };
        let (most, budget_ms): (usize, f64) = (most.parse()?, budget_ms.parse()?);
        plan.run(feeds.clone())?;
        let begin = Instant::now();
        let mut latencies = Vec::new();
        while latencies.is_empty()
            || latencies.len() < most && begin.elapsed().as_secs_f64() * 1e3 < budget_ms
        {
            let start = Instant::now();
            std::hint::black_box(plan.run(feeds.clone())?);
            latencies.push(start.elapsed().as_secs_f64() * 1e6);
        }
        answer(&json!({ "event": "burst", "latencies_us": latencies, "rss_kb": peak_rss_kb() }))?;
    }
    Ok(())
}

fn arguments() -> Result<[String; 3]> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    arguments.try_into().ok().context("expected MODEL INPUTS THREADS")
}

fn answer(value: &serde_json::Value) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{value}")?;
    Ok(out.flush()?)
}

/// An array of the archive, whatever its type.
fn read(archive: &mut NpzReader<File>, name: &str) -> Option<Tensor> {
    macro_rules! first_of {
        ($($ty:ty),*) => {{
            $(for name in [name.to_owned(), format!("{name}.npy")] {
                if let Ok(array) = archive.by_name::<OwnedRepr<$ty>, IxDyn>(&name) {
                    let shape = array.shape().to_vec();
                    let elements: Vec<$ty> = array.iter().copied().collect();
                    return tensor1(&elements).into_shape(&shape).ok();
                }
            })*
            None
        }};
    }
    first_of!(f32, i64, i32, bool, u8, i8, f64, u32)
}

fn peak_rss_kb() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}
