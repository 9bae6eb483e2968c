//! Whole modules for machines that this one is not, on an emulator.

use std::io::{Seek, Write};
use std::process::{Command, Stdio};

use ired_compiler::targets::CpuTarget;
use ired_compiler::{Options, Outcome, Unobserved, compile_graph};
use ired_graph::{DType, Graph, Tensor};

use crate::harness::{self, Compiled};

/// A compiled graph: outputs from inputs, or what went wrong.
pub(crate) type Run = Box<dyn Fn(&[Tensor]) -> Result<Vec<Tensor>, String>>;

/// `graph` compiled for this machine, or for each of `IRED_TEST_TARGETS`, which spaces separate: modules for these are run
/// by the program, with arguments, that `IRED_TEST_RUNNER` names. It does what the example `run_module` of the runtime does.
pub(crate) fn compile(graph: &Graph) -> Vec<Run> {
    let Some(targets) = variable("IRED_TEST_TARGETS") else {
        let compiled = Compiled::new(graph);
        return vec![Box::new(move |inputs| compiled.run(inputs).map_err(|e| format!("{e:?}")))];
    };
    targets.split_whitespace().map(|target| compile_for(graph, target)).collect()
}

fn compile_for(graph: &Graph, target: &str) -> Run {
    let options = Options::new(CpuTarget::parse(target).unwrap());
    let outcome = compile_graph(graph.clone(), [0; 32], &options, harness::cache(), &mut Unobserved);
    let Outcome::Module(drafts) = outcome.unwrap_or_else(|e| panic!("{target}: {e}\n{graph}")) else {
        panic!("{target}: no module");
    };
    let (module, target) = (drafts[0].to_bytes().expect("a sound draft"), target.to_owned());
    Box::new(move |inputs| run(&module, inputs).map_err(|e| format!("{target}: {e}")))
}

#[allow(clippy::disallowed_methods, reason = "what tests run on, not a setting")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn run(module: &[u8], inputs: &[Tensor]) -> Result<Vec<Tensor>, String> {
    let runner = variable("IRED_TEST_RUNNER").expect("foreign targets have a runner");
    let mut words = runner.split_whitespace();
    let mut runner = Command::new(words.next().expect("a runner has a name"));
    let mut job = tempfile::tempfile().unwrap();
    job.write_all(&encode(module, inputs)).unwrap();
    job.rewind().unwrap();
    let answer = runner.args(words).stdin(job).stderr(Stdio::inherit()).output().unwrap();
    if !answer.status.success() {
        return Err(format!("the runner ended with {}", answer.status));
    }
    Ok(decode(&answer.stdout))
}

fn encode(module: &[u8], inputs: &[Tensor]) -> Vec<u8> {
    let mut job = Vec::new();
    let counted = |job: &mut Vec<u8>, bytes: &[u8]| {
        job.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        job.extend_from_slice(bytes);
    };
    counted(&mut job, module);
    job.extend_from_slice(&(inputs.len() as u64).to_le_bytes());
    for input in inputs {
        counted(&mut job, input.dtype().name().as_bytes());
        job.extend_from_slice(&(input.shape().len() as u64).to_le_bytes());
        input.shape().iter().for_each(|dim| job.extend_from_slice(&dim.to_le_bytes()));
        counted(&mut job, input.data());
    }
    job
}

fn decode(mut answer: &[u8]) -> Vec<Tensor> {
    let rest = &mut answer;
    let outputs = (0..number(rest)).map(|_| {
        let name = counted(rest);
        let dtype = DType::ALL.into_iter().find(|dtype| dtype.name().as_bytes() == name).expect("a type");
        let shape: Vec<u64> = (0..number(rest)).map(|_| number(rest)).collect();
        Tensor::new(dtype, shape, counted(rest).to_vec().into()).expect("as many bytes as the type says")
    });
    outputs.collect()
}

fn number(rest: &mut &[u8]) -> u64 {
    let (bytes, after) = rest.split_first_chunk().expect("a whole answer");
    *rest = after;
    u64::from_le_bytes(*bytes)
}

fn counted<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let count = number(rest) as usize;
    let (bytes, after) = rest.split_at(count);
    *rest = after;
    bytes
}
