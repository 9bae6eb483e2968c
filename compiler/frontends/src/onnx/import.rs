//! From messages to a graph: names to values, nodes in order, functions inlined, refusals collected.

mod functions;
mod interface;
mod parts;
mod scope;
mod survey;
mod trial;
mod types;

pub(crate) use scope::{Binding, Frame, Scope};

use std::collections::HashMap;
use std::rc::Rc;

use ired_graph::{Builder, Graph, Origin, RegionId, ValueId};

use self::functions::resolve_attributes;
use self::scope::FunctionKey;
use super::TensorError;
use super::attributes::Attributes;
use super::call::{Call, Outcome, Refusal};
use super::opset::{Opsets, canonical_domain, check_ir_version};
use super::order::{node_name, sort_nodes, used_names};
use super::proto::{FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto, TypeProto};
use super::registry::{self, Import, NotFound};
use super::tensor::{self, ExternalFiles};
use crate::{ImportError, InvalidNode, ModelSource, Problem, UnsupportedNode};

/// Nodes after functions are inlined: a few small functions that call each other can stand for any number.
const MAX_NODES: u64 = 1 << 18;

pub(crate) struct Importer<'m> {
    pub(crate) graph: Graph,
    files: &'m ExternalFiles<'m>,
    functions: HashMap<FunctionKey<'m>, &'m FunctionProto>,
    /// Types the file states for values, which stand in for those of refused nodes.
    stated: Rc<HashMap<&'m str, &'m TypeProto>>,
    nodes_left: u64,
    unsupported: Vec<UnsupportedNode>,
    invalid: Vec<InvalidNode>,
}

/// # Errors
/// As [`crate::Frontend::import`].
pub(super) fn import_model(model: &ModelProto, source: &dyn ModelSource) -> Result<Graph, ImportError> {
    check_ir_version(model)?;
    let opsets = Opsets::new(&model.opset_import)?;
    let body = model.graph.as_ref().ok_or(ImportError::NoGraph)?;
    interface::check_interface(body)?;
    let files = ExternalFiles::new(source);
    let mut functions = HashMap::new();
    for function in &model.functions {
        let key = (canonical_domain(function.domain()), function.name(), function.overload());
        if functions.insert(key, function).is_some() {
            return Err(ImportError::DuplicateName { name: function.name().to_owned() });
        }
    }
    let stated = body.value_info.iter().chain(&body.output);
    let stated = stated.filter_map(|v| Some((v.name(), v.r#type.as_ref()?))).collect::<HashMap<_, _>>();
    let mut importer = Importer {
        graph: Graph::new(body.name()),
        files: &files,
        functions,
        stated: Rc::new(stated),
        nodes_left: MAX_NODES,
        unsupported: Vec::new(),
        invalid: Vec::new(),
    };
    let region = importer.graph.body;
    let frame = Frame { opsets: &opsets, region, prefix: "", arguments: None, caller: None, depth: 0 };
    let mut scope = Scope::default();
    importer.define_initializers(body, &mut scope, &frame)?;
    importer.define_inputs(body, &mut scope, &frame)?;
    importer.import_nodes(&body.node, &mut scope, &frame)?;
    let outputs = importer.find_outputs(body, &scope)?;
    importer.finish(outputs, body)
}

impl<'m> Importer<'m> {
    fn define_initializers(
        &mut self,
        graph: &GraphProto,
        scope: &mut Scope<'_>,
        frame: &Frame<'_>,
    ) -> Result<(), ImportError> {
        if let Some(sparse) = graph.sparse_initializer.first() {
            let name = sparse.values.as_ref().map(|v| v.name().to_owned()).unwrap_or_default();
            return Err(ImportError::Tensor { tensor: name, cause: TensorError::Sparse });
        }
        let used = used_names(graph);
        for tensor in &graph.initializer {
            // What nothing uses would stay with the model as a weight; its name is still taken.
            let used = used.contains(tensor.name());
            let binding = if used { self.initializer(tensor, frame)? } else { Binding::Unknown };
            scope.define(tensor.name(), binding)?;
        }
        Ok(())
    }

    fn initializer(&mut self, tensor: &TensorProto, frame: &Frame<'_>) -> Result<Binding, ImportError> {
        let files = self.files;
        let mut b = self.builder(tensor.name(), "Initializer", frame.region);
        match tensor::emit(&mut b, tensor.name(), tensor, files) {
            Ok(value) => Ok(Binding::Value(value)),
            Err(Refusal::Fatal(error)) => match *error {
                ImportError::Tensor { cause: cause @ TensorError::DType { .. }, .. } => {
                    self.refuse(tensor.name(), "Initializer", (cause.to_string(), types::OTHER_DTYPE), frame);
                    Ok(Binding::Unknown)
                }
                error => Err(error),
            },
            Err(Refusal::Unsupported { reason, hint }) => {
                self.refuse(tensor.name(), "Initializer", (reason, hint), frame);
                Ok(Binding::Unknown)
            }
            Err(Refusal::Invalid(problem)) => {
                let (name, op_type) = (tensor.name().to_owned(), "Initializer".to_owned());
                self.invalid.push(InvalidNode { name, op_type, problem });
                Ok(Binding::Unknown)
            }
        }
    }

    /// Reports what is no node but stands in a list of nodes all the same: one report names everything.
    fn refuse(&mut self, name: &str, what: &str, (reason, hint): (String, &str), frame: &Frame<'_>) {
        self.unsupported.push(UnsupportedNode {
            name: name.to_owned(),
            op_type: what.to_owned(),
            domain: String::new(),
            version: frame.opsets.version(""),
            reason,
            hint: hint.to_owned(),
        });
    }

    fn import_nodes(
        &mut self,
        nodes: &[NodeProto],
        scope: &mut Scope<'_>,
        frame: &Frame<'_>,
    ) -> Result<(), ImportError> {
        // Before sorting: a node that redefines what it takes would look like a cycle.
        if let Some(name) = nodes.iter().flat_map(|n| &n.output).find(|name| scope.names.contains_key(*name))
        {
            return Err(ImportError::DuplicateName { name: name.clone() });
        }
        for index in sort_nodes(nodes)? {
            let node = &nodes[index];
            let outputs = self.import_node(node, scope, frame)?;
            for (position, name) in node.output.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
                let binding = match outputs.get(position).copied().unwrap_or(Binding::Unknown) {
                    Binding::Unknown | Binding::Absent => self.stand_in(name, frame),
                    known => known,
                };
                scope.define(name, binding)?;
            }
        }
        Ok(())
    }

    /// A value for the output of a refused node, so that what depends on it is looked at too. The graph is never
    /// handed out once a node was refused.
    fn stand_in(&mut self, name: &str, frame: &Frame<'_>) -> Binding {
        let stated = if frame.caller.is_none() { self.stated.get(name) } else { None };
        match stated.and_then(|ty| types::stated_type(&mut self.graph.symbols, ty)) {
            Some(ty) => Binding::Value(self.graph.add_region_input(self.graph.body, ty)),
            None => Binding::Unknown,
        }
    }

    fn import_node(
        &mut self,
        node: &NodeProto,
        scope: &Scope<'_>,
        frame: &Frame<'_>,
    ) -> Result<Vec<Binding>, ImportError> {
        self.count_node()?;
        let name = format!("{}{}", frame.prefix, node_name(node));
        let before = self.unsupported.len();
        let outcome = self.import_named(&name, node, scope, frame);
        match outcome.and_then(|outputs| self.with_short_sizes(outputs, &name, frame)) {
            Ok(outputs) => Ok(outputs),
            Err(refusal) => {
                self.refuse_node(node, refusal, before, frame)?;
                Ok(Vec::new())
            }
        }
    }

    /// Sizes that have become long get names before more is computed from them.
    fn with_short_sizes(
        &mut self,
        bindings: Vec<Binding>,
        name: &str,
        frame: &Frame<'_>,
    ) -> Outcome<Vec<Binding>> {
        let mut b = self.builder(name, "sizes", frame.region);
        let short = bindings.into_iter().map(|binding| {
            let parts = binding.parts().into_iter().map(|part| b.name_long_sizes(part, name));
            let parts = parts.collect::<Result<Vec<_>, _>>()?;
            Ok(binding.with_parts(&mut parts.into_iter()))
        });
        short.collect()
    }

    fn count_node(&mut self) -> Result<(), ImportError> {
        let limit = ImportError::Limit { what: "nodes, functions inlined", limit: MAX_NODES };
        self.nodes_left = self.nodes_left.checked_sub(1).ok_or(limit)?;
        Ok(())
    }

    /// Reports a node, before all those reported from `position` on, which are inside of it. An error is what ends the
    /// import.
    fn refuse_node(
        &mut self,
        node: &NodeProto,
        refusal: Refusal,
        position: usize,
        frame: &Frame<'_>,
    ) -> Result<(), ImportError> {
        let name = format!("{}{}", frame.prefix, node_name(node));
        let op_type = node.op_type().to_owned();
        match refusal {
            Refusal::Fatal(error) => return Err(*error),
            Refusal::Invalid(problem) => self.invalid.push(InvalidNode { name, op_type, problem }),
            Refusal::Unsupported { reason, hint } => {
                let domain = canonical_domain(node.domain());
                let version = frame.opsets.version(domain);
                let (domain, hint) = (domain.to_owned(), hint.to_owned());
                let found = UnsupportedNode { name, op_type, domain, version, reason, hint };
                self.unsupported.insert(position, found);
            }
        }
        Ok(())
    }

    fn import_named(
        &mut self,
        name: &str,
        node: &NodeProto,
        scope: &Scope<'_>,
        frame: &Frame<'_>,
    ) -> Outcome<Vec<Binding>> {
        let domain = canonical_domain(node.domain());
        let attributes = resolve_attributes(node, frame);
        if let Some((key, function)) =
            self.functions.get_key_value(&(domain, node.op_type(), node.overload()))
        {
            let (key, function) = (*key, *function);
            let inputs = find_inputs(node, scope)?;
            return self.inline_function(name, key, function, &inputs, &attributes, frame);
        }
        let version = frame.opsets.version(domain);
        let (import, version) = match find_operator(domain, node.op_type(), version) {
            Ok(found) => found,
            Err(refusal) => {
                self.survey_graphs(node, frame)?;
                return Err(refusal);
            }
        };
        let bindings = find_inputs(node, scope)?;
        if bindings.iter().any(|b| matches!(b, Binding::Unknown)) {
            self.import_or_survey_graphs(import, node, scope, frame)?;
            return Ok(Vec::new());
        }
        let inputs: Vec<Option<ValueId>> = bindings.iter().map(|binding| binding.value()).collect();
        if matches!(import, Import::One(_) | Import::Many(_)) {
            let other =
                |b: &Binding| matches!(b, Binding::Sequence(_) | Binding::Optional(_) | Binding::Maps(_));
            if let Some(i) = bindings.iter().position(other) {
                return super::call::invalid(format!("input {i} is no tensor"));
            }
        }
        let (stated, unstated) = (self.stated.clone(), HashMap::new());
        let call = Call {
            name,
            attributes: Attributes::new(&attributes),
            version,
            inputs: &inputs,
            bindings: &bindings,
            outputs: &node.output,
            files: self.files,
            stated: if frame.caller.is_none() { &stated } else { &unstated },
        };
        let outputs = match import {
            Import::One(function) => {
                let value = function(&mut self.builder(name, node.op_type(), frame.region), &call)?;
                call.only_first_output()?;
                vec![Binding::Value(value)]
            }
            Import::Many(function) => {
                let values = function(&mut self.builder(name, node.op_type(), frame.region), &call)?;
                values.into_iter().map(Binding::Value).collect()
            }
            Import::Composed(function) => {
                function(&mut self.builder(name, node.op_type(), frame.region), &call)?
            }
            Import::WithGraphs(function) => function(self, &call, scope, frame)?,
            Import::Standard(..) => {
                unreachable!("the registry gives what a standard operator is imported by")
            }
        };
        if let Some(attribute) = call.attributes.unread().first() {
            return super::call::unsupported(
                format!("attribute `{attribute}`"),
                "remove the attribute if its value is the default, or else rewrite the node without it",
            );
        }
        match (outputs.len()..node.output.len()).find(|i| call.wants(*i)) {
            Some(i) => {
                super::call::unsupported(format!("output {i} (`{}`)", node.output[i]), "drop that output")
            }
            None => Ok(outputs),
        }
    }

    /// Reports what is refused in the graphs of a node whose inputs are not known.
    fn import_or_survey_graphs(
        &mut self,
        import: Import,
        node: &NodeProto,
        scope: &Scope<'_>,
        frame: &Frame<'_>,
    ) -> Outcome<()> {
        if !matches!(import, Import::WithGraphs(_)) {
            return Ok(self.survey_graphs(node, frame)?);
        }
        let attributes = resolve_attributes(node, frame);
        let graphs = attributes.iter().filter_map(|a| a.g.as_ref());
        let imports: Vec<_> = graphs
            .map(|graph| {
                let region = self.graph.add_region();
                self.import_subgraph(graph, &[], scope, &frame.in_region(region))
            })
            .collect();
        imports.into_iter().try_for_each(|outputs| outputs.map(drop))
    }

    /// A builder whose nodes say that they come from `name`.
    pub(crate) fn builder(&mut self, name: &str, op_type: &str, region: RegionId) -> Builder<'_> {
        let mut builder = Builder::in_region(&mut self.graph, region);
        builder.origin = Some(Origin { name: name.to_owned(), op: op_type.to_owned() });
        builder
    }

    /// Imports the nodes of a graph in an attribute into `frame`'s region, with `inputs` for its first inputs, and gives
    /// its outputs.
    pub(crate) fn import_subgraph(
        &mut self,
        graph: &GraphProto,
        inputs: &[Binding],
        scope: &Scope<'_>,
        frame: &Frame<'_>,
    ) -> Outcome<Vec<Binding>> {
        if !inputs.is_empty() && graph.input.len() != inputs.len() {
            let (found, expected) = (graph.input.len(), inputs.len());
            return super::call::invalid(format!("a graph of {found} inputs; expected {expected}"));
        }
        let frame = Frame { depth: frame.deeper()?, ..*frame };
        let mut inner = Scope { names: HashMap::new(), parent: Some(scope) };
        self.define_initializers(graph, &mut inner, &frame)?;
        for (input, binding) in graph.input.iter().zip(inputs) {
            // What the node gives comes before an initializer, which is there for when it gives nothing.
            inner.names.insert(input.name().to_owned(), *binding);
        }
        self.import_nodes(&graph.node, &mut inner, &frame)?;
        let find = |name: &str| {
            let undefined = || Refusal::Invalid(Problem::UndefinedInput { value: name.to_owned() });
            inner.find(name).ok_or_else(undefined)
        };
        graph.output.iter().map(|output| find(output.name())).collect()
    }
}

fn find_operator(domain: &str, op_type: &str, version: i64) -> Outcome<(Import, i64)> {
    use super::call::unsupported;
    registry::find(domain, op_type, version).or_else(|missing| match missing {
        NotFound::OlderThan(_) if version == 0 => {
            unsupported(
                "the model imports no version of its operator set",
                "declare the version of the operator set in the model",
            )
        }
        NotFound::OlderThan(oldest) => unsupported(
            format!("version {version} of the operator set; this operator is supported from {oldest} on"),
            "convert the model to that version of the operator set or a newer one",
        ),
        NotFound::Operator => {
            let hint = match domain {
                "" => "export the model without the operator, or rewrite the node with supported ones",
                _ => "define the operator as a function in the model, or rewrite the node with standard operators",
            };
            unsupported("the operator is not supported", hint)
        }
    })
}

fn find_inputs(node: &NodeProto, scope: &Scope<'_>) -> Outcome<Vec<Binding>> {
    let find = |name: &String| match name.as_str() {
        "" => Ok(Binding::Absent),
        name => scope.find(name).ok_or_else(|| Problem::UndefinedInput { value: name.to_owned() }.into()),
    };
    node.input.iter().map(find).collect()
}
