//! Keeps one of several nodes that do the same to the same operands. A region sees the nodes of those around it.

use std::collections::HashMap;

use ired_graph::{Graph, Op, RegionId, ValueId};

use super::PassError;

/// Literals over this many bytes are not compared: they are few, and parameters once kernels are formed.
const MAX_COMPARED_BYTES: usize = 4096;

type Key = (String, Vec<ValueId>);

pub(super) fn merge_duplicates(graph: &mut Graph) -> Result<(), PassError> {
    let mut merge = Merge { replaced: vec![None; graph.values.len()], seen: vec![HashMap::new()] };
    merge.region(graph, graph.body);
    super::rewrite::rewrite(graph, &mut |_, _| Ok(None))?;
    Ok(())
}

struct Merge {
    replaced: Vec<Option<ValueId>>,
    /// One scope a region, innermost last.
    seen: Vec<HashMap<Key, Vec<ValueId>>>,
}

impl Merge {
    fn region(&mut self, graph: &mut Graph, region: RegionId) {
        for id in graph.regions[region.index()].nodes.clone() {
            for operand in &mut graph.nodes[id.index()].operands {
                *operand = self.replaced[operand.index()].unwrap_or(*operand);
            }
            let node = &graph.nodes[id.index()];
            if !node.regions.is_empty() {
                for nested in node.regions.clone() {
                    self.seen.push(HashMap::new());
                    self.region(graph, nested);
                    self.seen.pop();
                }
                continue;
            }
            let Some(text) = op_key(&node.op) else { continue };
            let key = (text, node.operands.clone());
            if let Some(first) = self.seen.iter().find_map(|scope| scope.get(&key)) {
                let same_types = first
                    .iter()
                    .zip(&node.results)
                    .all(|(a, b)| graph.values[a.index()].ty == graph.values[b.index()].ty);
                if same_types {
                    for (kept, dropped) in first.iter().zip(&node.results) {
                        self.replaced[dropped.index()] = Some(*kept);
                    }
                }
            } else if let Some(scope) = self.seen.last_mut() {
                scope.insert(key, node.results.clone());
            }
        }
        for output in &mut graph.regions[region.index()].outputs {
            *output = self.replaced[output.index()].unwrap_or(*output);
        }
    }
}

fn op_key(op: &Op) -> Option<String> {
    match op {
        Op::Constant(tensor) if tensor.data().len() > MAX_COMPARED_BYTES => None,
        _ => Some(format!("{op:?}")),
    }
}
