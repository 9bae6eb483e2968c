//! What cannot be imported inside of nodes that are not imported themselves: their graphs have no types to import them
//! with, but their operators have names.

use std::collections::HashMap;

use super::super::opset::{Opsets, canonical_domain};
use super::super::order::node_name;
use super::super::proto::{AttributeProto, FunctionProto, NodeProto};
use super::scope::{Frame, FunctionKey};
use super::{Importer, find_operator};
use crate::ImportError;

impl Importer<'_> {
    /// Reports each node in the graphs of `node`, and in the functions called there, whose operator is not known.
    /// Which branches would run is not known either, so that all of them count.
    pub(super) fn survey_graphs(&mut self, node: &NodeProto, frame: &Frame<'_>) -> Result<(), ImportError> {
        let attributes = node.attribute.iter().filter_map(|a| resolve(a, frame));
        for graph in attributes.filter_map(|a| a.g.as_ref()) {
            let inner = Frame { depth: frame.deeper()?, ..*frame };
            self.survey_nodes(&graph.node, &inner)?;
        }
        Ok(())
    }

    fn survey_nodes(&mut self, nodes: &[NodeProto], frame: &Frame<'_>) -> Result<(), ImportError> {
        for node in nodes {
            self.count_node()?;
            let domain = canonical_domain(node.domain());
            let function = self.functions.get_key_value(&(domain, node.op_type(), node.overload()));
            if let Some((key, function)) = function.map(|(key, function)| (*key, *function)) {
                self.survey_function(node, key, function, frame)?;
                continue;
            }
            if let Err(refusal) = find_operator(domain, node.op_type(), frame.opsets.version(domain)) {
                self.refuse_node(node, refusal, self.unsupported.len(), frame)?;
            }
            self.survey_graphs(node, frame)?;
        }
        Ok(())
    }

    fn survey_function(
        &mut self,
        node: &NodeProto,
        key: FunctionKey<'_>,
        function: &FunctionProto,
        frame: &Frame<'_>,
    ) -> Result<(), ImportError> {
        if frame.is_inside(key) {
            return Ok(());
        }
        let mut arguments: HashMap<&str, &AttributeProto> =
            function.attribute_proto.iter().map(|a| (a.name(), a)).collect();
        arguments.extend(node.attribute.iter().filter_map(|a| Some((a.name(), resolve(a, frame)?))));
        let own = Opsets::new(&function.opset_import)?;
        let prefix = format!("{}{}/", frame.prefix, node_name(node));
        let inner = Frame {
            opsets: if function.opset_import.is_empty() { frame.opsets } else { &own },
            region: frame.region,
            prefix: &prefix,
            arguments: Some(&arguments),
            caller: Some((key, frame)),
            depth: frame.deeper()?,
        };
        self.survey_nodes(&function.node, &inner)
    }
}

/// The attribute, or what the caller of the function gave in its place.
fn resolve<'a>(attribute: &'a AttributeProto, frame: &Frame<'a>) -> Option<&'a AttributeProto> {
    match attribute.ref_attr_name() {
        "" => Some(attribute),
        referred => frame.arguments?.get(referred).copied(),
    }
}
