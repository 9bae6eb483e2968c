//! What ONNX's schemas say of the operators that the importer knows: how many inputs and outputs, which attributes.

use std::sync::OnceLock;

use ired_frontends::onnx::operators;

/// One line an operator, all versions together: domain (`-` for `ai.onnx`), name, fewest and most inputs, most outputs,
/// and attributes by name and kind.
const TABLE: &str = include_str!("operators.txt");

/// The kind of an attribute, by ONNX's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Float = 1,
    Int,
    Text,
    Tensor,
    Graph,
    Floats,
    Ints,
    Texts,
}

#[derive(Clone, Debug)]
pub(crate) struct Schema {
    pub(crate) domain: &'static str,
    pub(crate) op: &'static str,
    pub(crate) min_inputs: usize,
    pub(crate) max_inputs: usize,
    pub(crate) max_outputs: usize,
    pub(crate) attributes: Vec<(&'static str, Kind)>,
}

/// Every operator of the importer once.
pub(crate) fn schemas() -> &'static [Schema] {
    static SCHEMAS: OnceLock<Vec<Schema>> = OnceLock::new();
    SCHEMAS.get_or_init(|| {
        let mut known: Vec<_> = operators().map(|(domain, op, _)| (domain, op)).collect();
        known.sort_unstable();
        known.dedup();
        known.into_iter().map(|(domain, op)| find(domain, op)).collect()
    })
}

pub(crate) fn schema_of(domain: &str, op: &str) -> Option<&'static Schema> {
    schemas().iter().find(|schema| schema.domain == domain && schema.op == op)
}

/// An operator that the table does not have may have a few inputs and no attribute.
fn find(domain: &'static str, op: &'static str) -> Schema {
    let written = if domain.is_empty() { "-" } else { domain };
    let row = TABLE.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let row = row.into_iter().find(|row| row[..2] == [written, op]).unwrap_or_default();
    let number = |i: usize, default| row.get(i).and_then(|n: &&str| n.parse().ok()).unwrap_or(default);
    let attribute = |text: &&'static str| {
        let (name, kind) = text.split_once(':')?;
        let kind = match kind {
            "f" => Kind::Float,
            "i" => Kind::Int,
            "s" => Kind::Text,
            "t" => Kind::Tensor,
            "g" => Kind::Graph,
            "F" => Kind::Floats,
            "I" => Kind::Ints,
            _ => Kind::Texts,
        };
        Some((name, kind))
    };
    let attributes = row.iter().skip(5).filter_map(attribute).collect();
    Schema {
        domain,
        op,
        min_inputs: number(2, 1),
        max_inputs: number(3, 4),
        max_outputs: number(4, 2),
        attributes,
    }
}
