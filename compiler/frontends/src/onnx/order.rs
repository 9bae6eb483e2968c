//! Puts nodes in an order in which every value is defined before its use.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

use super::proto::{GraphProto, NodeProto};
use crate::ImportError;

/// The order to import `nodes` in; their own where it already works. Names that no node defines are left to the
/// importer.
///
/// # Errors
/// [`ImportError::DuplicateName`] when two nodes define one name, [`ImportError::Cycle`] when there is no order.
pub(crate) fn sort_nodes(nodes: &[NodeProto]) -> Result<Vec<usize>, ImportError> {
    let mut producer = HashMap::new();
    for (index, node) in nodes.iter().enumerate() {
        for output in node.output.iter().filter(|o| !o.is_empty()) {
            if producer.insert(output.as_str(), index).is_some() {
                return Err(ImportError::DuplicateName { name: output.clone() });
            }
        }
    }
    let producers: Vec<Vec<usize>> = nodes
        .iter()
        .map(|node| {
            let mut used = Vec::new();
            collect_used(node, &mut used);
            let mut from: Vec<usize> = used.iter().filter_map(|name| producer.get(name).copied()).collect();
            from.sort_unstable();
            from.dedup();
            from
        })
        .collect();
    if producers.iter().enumerate().all(|(index, from)| from.iter().all(|p| *p < index)) {
        return Ok((0..nodes.len()).collect());
    }

    let mut consumers = vec![Vec::new(); nodes.len()];
    let mut missing: Vec<usize> = producers.iter().map(Vec::len).collect();
    for (index, from) in producers.iter().enumerate() {
        for p in from {
            consumers[*p].push(index);
        }
    }
    let mut ready: BinaryHeap<_> = (0..nodes.len()).filter(|i| missing[*i] == 0).map(Reverse).collect();
    let mut order = Vec::with_capacity(nodes.len());
    while let Some(Reverse(index)) = ready.pop() {
        order.push(index);
        for consumer in &consumers[index] {
            missing[*consumer] -= 1;
            if missing[*consumer] == 0 {
                ready.push(Reverse(*consumer));
            }
        }
    }
    match order.len() == nodes.len() {
        true => Ok(order),
        false => Err(ImportError::Cycle { nodes: find_cycle(nodes, &producers, &missing) }),
    }
}

/// The names that anything in a graph uses, or gives as output.
pub(crate) fn used_names(graph: &GraphProto) -> HashSet<&str> {
    let mut used: Vec<&str> = graph.output.iter().map(|o| o.name()).collect();
    graph.node.iter().for_each(|node| collect_used(node, &mut used));
    used.into_iter().collect()
}

/// The names a node uses: its inputs, and what its subgraphs take from around them. Captured names that a subgraph
/// also defines are left out.
fn collect_used<'a>(node: &'a NodeProto, used: &mut Vec<&'a str>) {
    used.extend(node.input.iter().map(String::as_str));
    for graph in node.attribute.iter().filter_map(|a| a.g.as_ref()) {
        let mut inner = Vec::new();
        graph.node.iter().for_each(|n| collect_used(n, &mut inner));
        inner.extend(graph.output.iter().map(|o| o.name()));
        let defined = defined_names(graph);
        used.extend(inner.into_iter().filter(|name| !defined.contains(name)));
    }
}

fn defined_names(graph: &GraphProto) -> HashSet<&str> {
    let inputs = graph.input.iter().map(|i| i.name());
    let initializers = graph.initializer.iter().map(|t| t.name());
    let outputs = graph.node.iter().flat_map(|n| n.output.iter().map(String::as_str));
    inputs.chain(initializers).chain(outputs).collect()
}

/// The nodes of one cycle, the first one again at the end. Each node in `missing` waits for another one in it, so
/// walking from producer to producer comes round.
fn find_cycle(nodes: &[NodeProto], producers: &[Vec<usize>], missing: &[usize]) -> Vec<String> {
    const SHOWN: usize = 16;
    let mut seen_at = HashMap::new();
    let mut path = Vec::new();
    let mut next = (0..nodes.len()).find(|i| missing[*i] > 0);
    while let Some(index) = next {
        path.push(index);
        if let Some(start) = seen_at.insert(index, path.len() - 1) {
            path.drain(..start);
            break;
        }
        next = producers[index].iter().copied().find(|p| missing[*p] > 0);
    }
    path.reverse();
    let mut names: Vec<String> = path.iter().map(|i| node_name(&nodes[*i])).collect();
    if names.len() > SHOWN {
        let more = names.len() - SHOWN;
        names.truncate(SHOWN);
        names.push(format!("({more} more)"));
    }
    names
}

/// What a node is called in errors: its name, or that of its first output where it has none.
pub(crate) fn node_name(node: &NodeProto) -> String {
    match node.name() {
        "" => node.output.iter().find(|o| !o.is_empty()).cloned().unwrap_or_default(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(inputs: &[&str], outputs: &[&str]) -> NodeProto {
        NodeProto {
            input: inputs.iter().map(|s| s.to_string()).collect(),
            output: outputs.iter().map(|s| s.to_string()).collect(),
            ..NodeProto::default()
        }
    }

    #[test]
    fn sorted_stays_and_unsorted_is_sorted() {
        let sorted = [node(&["x"], &["a"]), node(&["x"], &["b"]), node(&["b", "a"], &["c"])];
        assert_eq!(sort_nodes(&sorted).unwrap(), [0, 1, 2]);
        let unsorted = [node(&["b", "a"], &["c"]), node(&["x"], &["b"]), node(&["b"], &["a"])];
        assert_eq!(sort_nodes(&unsorted).unwrap(), [1, 2, 0]);
    }

    #[test]
    fn a_cycle_is_named_by_the_nodes_on_it() {
        let nodes = [
            node(&["c"], &["before"]),
            node(&["x", "c"], &["a"]),
            node(&["a"], &["b"]),
            node(&["b"], &["c"]),
        ];
        let Err(ImportError::Cycle { nodes }) = sort_nodes(&nodes) else { panic!("no cycle found") };
        assert_eq!(nodes.len(), 4);
        assert_eq!(nodes.first(), nodes.last());
        assert!(!nodes.contains(&"before".to_owned()));
        assert!(matches!(sort_nodes(&[node(&["a"], &["a"])]), Err(ImportError::Cycle { .. })));
        let twice = [node(&[], &["a"]), node(&[], &["a"])];
        assert!(matches!(sort_nodes(&twice), Err(ImportError::DuplicateName { .. })));
    }
}
