//! What a model takes and gives: its inputs, its outputs, and how many there may be.

use std::collections::{HashMap, HashSet};

use ired_graph::{Definition, Graph, Op, ValueId};

use super::super::proto::GraphProto;
use super::scope::{Binding, Frame, Scope};
use super::{Importer, parts, types};
use crate::ImportError;

/// Inputs, and outputs: what is done for each on every call adds up.
const MAX_INPUTS_OR_OUTPUTS: usize = 16_384;

pub(super) fn check_interface(body: &GraphProto) -> Result<(), ImportError> {
    let limit = MAX_INPUTS_OR_OUTPUTS as u64;
    if body.output.is_empty() {
        return Err(ImportError::NoOutputs);
    }
    // Inputs with an initializer are weights, of which there may be any number.
    let initializers: HashSet<&str> = match body.input.len() > MAX_INPUTS_OR_OUTPUTS {
        true => body.initializer.iter().map(|tensor| tensor.name()).collect(),
        false => HashSet::new(),
    };
    let inputs = body.input.iter().filter(|input| !initializers.contains(input.name()));
    if inputs.count() > MAX_INPUTS_OR_OUTPUTS {
        return Err(ImportError::Limit { what: "inputs", limit });
    }
    if body.output.len() > MAX_INPUTS_OR_OUTPUTS {
        return Err(ImportError::Limit { what: "outputs", limit });
    }
    Ok(())
}

impl Importer<'_> {
    /// Inputs that have an initializer are weights: their value is in the file.
    pub(super) fn define_inputs(
        &mut self,
        graph: &GraphProto,
        scope: &mut Scope<'_>,
        frame: &Frame<'_>,
    ) -> Result<(), ImportError> {
        let initializers: HashSet<&str> = graph.initializer.iter().map(|t| t.name()).collect();
        for input in &graph.input {
            if initializers.contains(input.name()) {
                continue;
            }
            if let Some(composed) = parts::add_input(&mut self.graph, input)? {
                scope.define(input.name(), composed)?;
                continue;
            }
            let binding = match types::input_type(&mut self.graph.symbols, input)? {
                Ok(ty) => Binding::Value(self.graph.add_input(input.name(), ty)),
                Err(refusal) => {
                    self.refuse(input.name(), "Input", refusal, frame);
                    Binding::Unknown
                }
            };
            scope.define(input.name(), binding)?;
        }
        Ok(())
    }

    pub(super) fn find_outputs(
        &mut self,
        graph: &GraphProto,
        scope: &Scope<'_>,
    ) -> Result<Vec<(String, Binding)>, ImportError> {
        let find = |name: &str| {
            let undefined =
                || ImportError::Output { output: name.to_owned(), problem: "is not defined".to_owned() };
            Ok((name.to_owned(), scope.find(name).ok_or_else(undefined)?))
        };
        graph.output.iter().map(|output| find(output.name())).collect()
    }

    /// The finished graph, or everything that is wrong with it.
    pub(super) fn finish(
        mut self,
        outputs: Vec<(String, Binding)>,
        body: &GraphProto,
    ) -> Result<Graph, ImportError> {
        if !self.unsupported.is_empty() {
            return Err(ImportError::Unsupported(self.unsupported));
        }
        if !self.invalid.is_empty() {
            return Err(ImportError::Invalid(self.invalid));
        }
        let mut values = Vec::with_capacity(outputs.len());
        for ((name, binding), declared) in outputs.into_iter().zip(&body.output) {
            if let Binding::Sequence(_) | Binding::Optional(_) | Binding::Maps(_) = binding {
                for (part, value) in parts::names(&name, binding).into_iter().zip(binding.parts()) {
                    values.push(self.name_output(part, value)?);
                }
                continue;
            }
            let Some(value) = binding.value() else {
                return Err(ImportError::Output { output: name, problem: "has no value".to_owned() });
            };
            if let Some(ty) = &declared.r#type {
                types::check_declared(ty, &self.graph.value(value).ty, &self.graph.symbols)
                    .map_err(|problem| ImportError::Output { output: name.clone(), problem })?;
            }
            values.push(self.name_output(name, value)?);
        }
        self.graph.set_outputs(self.graph.body, values);
        self.name_params_apart();
        Ok(self.graph)
    }

    /// Weights that a node states are called after the node, and nodes of one name are common.
    fn name_params_apart(&mut self) {
        let (mut taken, mut counts) = (HashSet::new(), HashMap::<String, usize>::new());
        for param in &mut self.graph.params {
            let stated = param.name.clone();
            while !taken.insert(param.name.clone()) {
                let count = counts.entry(stated.clone()).or_default();
                *count += 1;
                param.name = format!("{stated}.{count}");
            }
        }
    }

    /// `value` under the name of a model output; a copy of it where it already has a name, being an input or another
    /// output too.
    fn name_output(&mut self, name: String, mut value: ValueId) -> Result<ValueId, ImportError> {
        let known = self.graph.value(value);
        if known.name.is_some() || matches!(known.definition, Definition::Input(..)) {
            let shape = known.ty.shape.clone();
            let body = self.graph.body;
            let copy = self.builder(&name, "Output", body).push(Op::Reshape { shape }, &[value]);
            value = copy.map_err(|e| ImportError::Output { output: name.clone(), problem: e.to_string() })?;
        }
        self.graph.set_name(value, name);
        Ok(value)
    }
}
