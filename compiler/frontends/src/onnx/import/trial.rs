//! Imports that may be taken back: the body of a loop is imported until the types of its state hold.

use ired_graph::RegionId;

use super::Importer;

/// How far an import was.
pub(crate) struct Mark {
    values: usize,
    nodes: usize,
    regions: usize,
    params: usize,
    unsupported: usize,
    invalid: usize,
    /// The region that nodes were added to, and how many it had.
    region: RegionId,
    region_nodes: usize,
}

impl Importer<'_> {
    /// The state of the import, in which `region` is the one that nodes are added to.
    pub(crate) fn mark(&self, region: RegionId) -> Mark {
        let graph = &self.graph;
        Mark {
            values: graph.values.len(),
            nodes: graph.nodes.len(),
            regions: graph.regions.len(),
            params: graph.params.len(),
            unsupported: self.unsupported.len(),
            invalid: self.invalid.len(),
            region,
            region_nodes: graph.region(region).nodes.len(),
        }
    }

    /// Whether a node was refused since.
    pub(crate) fn has_problems_since(&self, mark: &Mark) -> bool {
        self.unsupported.len() > mark.unsupported || self.invalid.len() > mark.invalid
    }

    /// Forgets everything that was imported since, but for symbols.
    pub(crate) fn rollback(&mut self, mark: Mark) {
        let graph = &mut self.graph;
        graph.values.truncate(mark.values);
        graph.nodes.truncate(mark.nodes);
        graph.regions.truncate(mark.regions);
        graph.params.truncate(mark.params);
        graph.regions[mark.region.index()].nodes.truncate(mark.region_nodes);
        self.unsupported.truncate(mark.unsupported);
        self.invalid.truncate(mark.invalid);
    }
}
