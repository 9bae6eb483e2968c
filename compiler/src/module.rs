//! The module phase: host functions as VM code, weights as kernels read them, and what callers need to know.

mod code;
mod notes;
mod params;

use ired_graph::{DType, Graph};
use ired_module::signature::{DimSpec, EntryPoint, Provenance, Signature, Target, TensorSpec};
use ired_module::{ExecutableDraft, KernelEntry, ModuleDraft};

use crate::errors::{Diagnostic, DiagnosticKind};
use crate::names::EntryNames;
use crate::passes::form_dispatches::Plan;
use crate::program::{ENTRY, Program};
use crate::rows;
use crate::targets::CpuTarget;

/// What the model's own graph says to callers, kept from before passes rewrote it.
#[derive(Clone, Debug)]
pub(crate) struct Interface {
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
    /// Why rows may not be independent, if that is so.
    pub(crate) rows: Result<(), String>,
    pub(crate) names: EntryNames,
}

impl Interface {
    pub(crate) fn of(graph: &Graph) -> Self {
        let names = EntryNames::of(graph);
        let specs = |values: &[ired_graph::ValueId], names: &[String]| {
            values.iter().zip(names).map(|(v, name)| tensor_spec(graph, *v, name)).collect()
        };
        Self {
            inputs: specs(graph.inputs(), &names.inputs),
            outputs: specs(graph.outputs(), &names.outputs),
            rows: rows::of_model(graph),
            names,
        }
    }
}

/// Assembles the module.
///
/// # Errors
/// When the program is over what the VM's registers can hold.
pub(crate) fn draft(
    graph: &Graph,
    plan: &Plan,
    program: &Program<'_>,
    interface: &Interface,
    image: Vec<u8>,
    target: &CpuTarget,
    provenance: Provenance,
) -> Result<ModuleDraft, Vec<Diagnostic>> {
    let code = code::lower(program, interface.outputs.iter().map(|o| o.dims.len()).collect())
        .map_err(|problem| vec![problem])?;
    let entries = program
        .executables
        .iter()
        .map(|e| KernelEntry {
            symbol: e.symbol.clone(),
            origin: e.origin.clone(),
            bindings: e.bindings.clone(),
            constants: e.constants,
        })
        .collect();
    Ok(ModuleDraft {
        signature: Signature {
            entries: vec![EntryPoint {
                name: ENTRY.to_owned(),
                function: 0,
                inputs: interface.inputs.clone(),
                outputs: interface.outputs.clone(),
                rows: rows::of_module(&interface.rows, graph, plan, target),
                peak: code.peak,
            }],
        },
        target: Target { triple: target.triple().to_owned(), features: required_features(program, target) },
        provenance,
        functions: code.functions,
        strings: code.messages,
        executable: ExecutableDraft { image, entries },
        params: params::list(graph, &program.params),
        texts: texts(graph)?,
        host_calls: program.host_calls.clone(),
        debug: notes::notes(graph, plan, &code.dispatches, target).encode(),
    })
}

/// What a machine needs to run the program: all of the target but for tiles, and those where a kernel uses them.
fn required_features(program: &Program<'_>, target: &CpuTarget) -> Vec<String> {
    let mut features = target.clone().without_tiles().features;
    features.extend(program.executables.iter().flat_map(|e| e.features).map(|feature| (*feature).to_owned()));
    features.sort();
    features.dedup();
    features
}

/// The graph's strings; their handles are their positions.
fn texts(graph: &Graph) -> Result<Vec<u8>, Vec<Diagnostic>> {
    let mut bytes = Vec::new();
    // The empty string is in every table.
    for text in graph.strings.texts().skip(1) {
        if !ired_module::texts::push(&mut bytes, text) {
            let message = format!("a string of {} bytes; the format takes 4 GiB", text.len());
            return Err(vec![Diagnostic::new(DiagnosticKind::ResourceLimit, message)]);
        }
    }
    Ok(bytes)
}

fn tensor_spec(graph: &Graph, value: ired_graph::ValueId, name: &str) -> TensorSpec {
    let ty = graph.ty(value);
    let dims = ty
        .shape
        .iter()
        .map(|dim| match dim.as_static() {
            Some(size) => DimSpec::Static(u64::try_from(size).unwrap_or(0)),
            None => {
                let range = graph.symbols.range(dim);
                let bound = |v: i64| u64::try_from(v).unwrap_or(0);
                DimSpec::Symbolic {
                    name: dim.display(&graph.symbols).to_string(),
                    min: bound(range.min),
                    max: bound(range.max),
                }
            }
        })
        .collect();
    TensorSpec { name: name.to_owned(), dtype: stored_dtype(ty.dtype), dims }
}

/// The two crates name the same types. The graph's list may grow, so a type added there needs its line here.
pub(crate) fn stored_dtype(dtype: DType) -> ired_module::DType {
    use ired_module::DType as Stored;
    match dtype {
        DType::Bool => Stored::Bool,
        DType::I4 => Stored::I4,
        DType::I8 => Stored::I8,
        DType::I16 => Stored::I16,
        DType::I32 => Stored::I32,
        DType::I64 => Stored::I64,
        DType::U4 => Stored::U4,
        DType::U8 => Stored::U8,
        DType::U16 => Stored::U16,
        DType::U32 => Stored::U32,
        DType::U64 => Stored::U64,
        DType::F16 => Stored::F16,
        DType::BF16 => Stored::BF16,
        DType::F32 => Stored::F32,
        DType::F64 => Stored::F64,
        DType::C64 => Stored::C64,
        DType::C128 => Stored::C128,
        DType::String => Stored::String,
        DType::I2 => Stored::I2,
        DType::U2 => Stored::U2,
        DType::F4E2M1 => Stored::F4E2M1,
        DType::F8E4M3FN => Stored::F8E4M3FN,
        DType::F8E4M3FNUZ => Stored::F8E4M3FNUZ,
        DType::F8E5M2 => Stored::F8E5M2,
        DType::F8E5M2FNUZ => Stored::F8E5M2FNUZ,
        DType::F8E8M0 => Stored::F8E8M0,
        other => unreachable!("element type {other} has no stored form"),
    }
}
