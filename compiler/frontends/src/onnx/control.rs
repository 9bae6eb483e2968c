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
    // Both branches before any fault of one, so that one report names what either of them lacks.
    let branches = [then, otherwise].map(|branch| {
        let region = importer.graph.add_region();
        (region, importer.import_subgraph(branch, scope, &frame.in_region(region)))
    });
    let mut regions = Vec::new();
    let mut known = Vec::new();
    for (region, outputs) in branches {
        known.push(outputs?.into_iter().map(Binding::value).collect::<Option<Vec<_>>>());
        regions.push(region);
    }
    let Some(known) = known.into_iter().collect::<Option<Vec<_>>>() else {
        return Ok(vec![Binding::Unknown; call.outputs.len()]);
    };
    for (region, values) in regions.iter().copied().zip(known) {
        importer.graph.set_outputs(region, values);
    }
    let mut b = importer.builder(call.name, "If", frame.region);
    if b.ty(condition).elements().as_static() != Some(1) {
        return invalid("the condition is not a scalar");
    }
    let condition = b.reshape(condition, Vec::new())?;
    let results = b.push_with_regions(Op::If, &[condition], regions)?;
    Ok(results.into_iter().map(Binding::Value).collect())
}
