//! Operators that hold graphs.

use ired_graph::{Builder, Op};

use super::call::{Call, Outcome, invalid};
use super::elementwise::constant_bool;
use super::import::{Binding, Frame, Importer, Scope};

/// A condition that is known picks its branch now; the other one is not even looked at.
pub(super) fn if_else(
    importer: &mut Importer<'_>,
    call: &Call<'_>,
    scope: &Scope<'_>,
    frame: &Frame<'_>,
) -> Outcome<Vec<Binding>> {
    let condition = call.input(0)?;
    let (then, otherwise) = (call.attributes.graph("then_branch")?, call.attributes.graph("else_branch")?);
    let known = constant_bool(&Builder::in_region(&mut importer.graph, frame.region), condition);
    if let Some(known) = known {
        return importer.import_subgraph(if known { then } else { otherwise }, scope, frame);
    }
    let mut regions = Vec::new();
    for branch in [then, otherwise] {
        let region = importer.graph.add_region();
        let outputs = importer.import_subgraph(branch, scope, &frame.in_region(region))?;
        let values = outputs.iter().map(|o| o.value()).collect::<Option<Vec<_>>>();
        let Some(values) = values else { return Ok(vec![Binding::Unknown; call.outputs.len()]) };
        importer.graph.set_outputs(region, values);
        regions.push(region);
    }
    let mut b = importer.builder(call.name, "If", frame.region);
    if b.ty(condition).elements().as_static() != Some(1) {
        return invalid("the condition is not a scalar");
    }
    let condition = b.reshape(condition, Vec::new())?;
    let results = b.push_with_regions(Op::If, &[condition], regions)?;
    Ok(results.into_iter().map(Binding::Value).collect())
}
