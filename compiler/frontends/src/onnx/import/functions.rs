//! Functions of the model itself: their nodes take the place of each call.

use std::borrow::Cow;
use std::collections::HashMap;

use super::super::call::{Outcome, Refusal};
use super::super::opset::Opsets;
use super::super::proto::{AttributeProto, FunctionProto, NodeProto};
use super::Importer;
use super::scope::{Binding, Frame, FunctionKey, Scope};
use crate::Problem;

impl Importer<'_> {
    /// Imports the function's nodes where the call stands, and gives its outputs.
    pub(super) fn inline_function(
        &mut self,
        name: &str,
        key: FunctionKey<'_>,
        function: &FunctionProto,
        inputs: &[Binding],
        attributes: &[AttributeProto],
        frame: &Frame<'_>,
    ) -> Outcome<Vec<Binding>> {
        if frame.is_inside(key) {
            return Err(Problem::RecursiveFunction { function: function.name().to_owned() }.into());
        }
        let mut arguments: HashMap<&str, &AttributeProto> =
            function.attribute_proto.iter().map(|a| (a.name(), a)).collect();
        arguments.extend(attributes.iter().map(|a| (a.name(), a)));
        let mut scope = Scope::default();
        for (position, input) in function.input.iter().enumerate() {
            scope.define(input, inputs.get(position).copied().unwrap_or(Binding::Absent))?;
        }
        // A function that imports no operator sets of its own uses the model's.
        let own = Opsets::new(&function.opset_import)?;
        let opsets = if function.opset_import.is_empty() { frame.opsets } else { &own };
        let prefix = format!("{name}/");
        let inner = Frame {
            opsets,
            region: frame.region,
            prefix: &prefix,
            arguments: Some(&arguments),
            caller: Some((key, frame)),
            depth: frame.deeper()?,
        };
        self.import_nodes(&function.node, &mut scope, &inner)?;
        let find = |name: &String| {
            let undefined = || Refusal::Invalid(Problem::UndefinedInput { value: name.clone() });
            scope.find(name).ok_or_else(undefined)
        };
        function.output.iter().map(find).collect()
    }
}

/// The node's attributes, those that refer to the function's replaced by what the caller gave.
pub(super) fn resolve_attributes<'a>(node: &'a NodeProto, frame: &Frame<'_>) -> Cow<'a, [AttributeProto]> {
    if node.attribute.iter().all(|a| a.ref_attr_name().is_empty()) {
        return Cow::Borrowed(&node.attribute);
    }
    let resolve = |attribute: &AttributeProto| match attribute.ref_attr_name() {
        "" => Some(attribute.clone()),
        referred => {
            let given = *frame.arguments?.get(referred)?;
            Some(AttributeProto { name: attribute.name.clone(), ref_attr_name: None, ..given.clone() })
        }
    };
    Cow::Owned(node.attribute.iter().filter_map(resolve).collect())
}
