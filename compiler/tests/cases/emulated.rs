//! Whole modules for machines that this one is not, on an emulator.

use ired_compiler::targets::CpuTarget;
use ired_compiler::{Options, Outcome, Unobserved, compile_graph};
use ired_graph::{DType, Graph, Tensor};

use crate::emulator;
use crate::harness::{self, Compiled};

/// A compiled graph: outputs from inputs, or what went wrong.
pub(crate) type Run = Box<dyn Fn(&[Tensor]) -> Result<Vec<Tensor>, String>>;

/// `graph` compiled for this machine, or for each of those that are emulated: modules for these are run by what the example
/// `run_module` of the runtime does.
pub(crate) fn compile(graph: &Graph) -> Vec<Run> {
    let Some(targets) = emulator::targets() else {
        let compiled = Compiled::new(graph);
        return vec![Box::new(move |inputs| compiled.run(inputs).map_err(|e| format!("{e:?}")))];
    };
    targets.into_iter().map(|target| compile_for(graph, target)).collect()
}

fn compile_for(graph: &Graph, target: CpuTarget) -> Run {
    let name = target.to_string();
    let outcome =
        compile_graph(graph.clone(), [0; 32], &Options::new(target), harness::cache(), &mut Unobserved);
    let Outcome::Module(drafts) = outcome.unwrap_or_else(|e| panic!("{name}: {e}\n{graph}")) else {
        panic!("{name}: no module");
    };
    let module = drafts[0].to_bytes().expect("a sound draft");
    Box::new(move |inputs| {
        let answer = emulator::run(&encode(&module, inputs)).map_err(|e| format!("{name}: {e}"))?;
        Ok(decode(&answer))
    })
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
