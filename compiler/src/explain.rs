//! What the compiler understood of a model and what it will run, as a report for people.
//!
//! Numbers that depend on sizes are given as expressions of them and, at sizes of the reader's choice, as numbers.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use ired_graph::{Dim, Graph, SymbolId, TensorType, ValueId};
use ired_module::signature::Rows;
use ired_module::{ONE_ROW, efficient_rows};

use crate::dispatch::Dispatch;
use crate::kernels;
use crate::module::Interface;
use crate::passes::form_dispatches::{Plan, Step};
use crate::program::Program;
use crate::rows;
use crate::schedule;
use crate::targets::CpuTarget;
use crate::work;

/// What to assume where a report needs numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Explain {
    /// Values of symbolic sizes by name; others count as 1, or as the least they may be.
    pub sizes: Vec<(String, u64)>,
    /// List every node of the graph, not only what runs.
    pub nodes: bool,
    /// The report is what could be tuned instead: entries of a tuning file, several for one problem.
    pub candidates: bool,
}

/// What a model's graph says before passes rewrite it.
pub(crate) struct Source {
    operators: BTreeMap<String, usize>,
    interface: String,
    nodes: Option<String>,
}

impl Source {
    pub(crate) fn of(graph: &Graph, explain: &Explain) -> Self {
        // Nodes that were composed from one of the model's count once.
        let mut seen = std::collections::HashSet::new();
        let mut operators: BTreeMap<String, usize> = BTreeMap::new();
        for (_, id) in graph.live_nodes() {
            if let Some(origin) = &graph.node(id).origin
                && origin.op != "Initializer"
                && seen.insert(origin.clone())
            {
                *operators.entry(origin.op.clone()).or_default() += 1;
            }
        }
        let nodes = explain.nodes.then(|| graph.to_string());
        Self { operators, interface: interface(graph), nodes }
    }
}

/// Names, types and sizes of inputs and outputs.
fn interface(graph: &Graph) -> String {
    let mut text = String::new();
    let mut list = |title: &str, values: &[ValueId]| {
        let _ = writeln!(text, "{title}");
        for value in values {
            let name = graph.value(*value).name.as_deref().unwrap_or("(unnamed)");
            let _ = writeln!(text, "  {name:<24} {}", graph.ty(*value).display(&graph.symbols));
        }
    };
    list("inputs", graph.inputs());
    list("outputs", graph.outputs());
    text
}

/// The report on a scheduled program.
pub(crate) fn explain(
    source: &Source,
    interface: &Interface,
    graph: &Graph,
    plan: &Plan,
    program: &Program<'_>,
    target: &CpuTarget,
    explain: &Explain,
) -> String {
    let report = Report { graph, target, sizes: Sizes::new(graph, explain) };
    let mut text = String::new();
    let _ = writeln!(text, "target {target}\n");
    text.push_str(&source.interface);
    describe_rows(&rows::of_module(&interface.rows, graph, plan, target), &mut text);
    report.sizes(&mut text);
    let operators: Vec<String> = source.operators.iter().map(|(op, n)| format!("{op} {n}")).collect();
    let _ = writeln!(text, "operators\n  {}", wrapped(&operators));
    if let Some(nodes) = &source.nodes {
        let _ = writeln!(text, "graph\n{nodes}");
    }
    report.parameters(&mut text);
    report.totals(plan, program, &mut text);
    report.dispatches(plan, &mut text);
    text
}

fn describe_rows(rows: &Rows, text: &mut String) {
    let _ = match rows {
        Rows::Independent { exact: Ok(()), .. } => {
            writeln!(text, "rows\n  are independent, each the same bits whatever is beside it")
        }
        Rows::Independent { exact: Err(why), .. } => {
            writeln!(text, "rows\n  are independent, but for rounding: {why}")
        }
        Rows::Dependent { reason } => writeln!(text, "rows\n  are not known to be independent: {reason}"),
    };
    if let Rows::Independent { costs, .. } = rows
        && !costs.is_empty()
    {
        let each = |rows: u64| {
            let cost = costs.get(rows as usize - 1).copied().unwrap_or(ONE_ROW);
            format!("{rows} ({:.2})", f64::from(cost) / (rows * u64::from(ONE_ROW)) as f64)
        };
        let listed: Vec<String> = efficient_rows(costs.iter().copied()).map(each).collect();
        let _ = writeln!(text, "  cost less with so many, each of that of one alone: {}", listed.join(", "));
    }
}

struct Report<'a> {
    graph: &'a Graph,
    target: &'a CpuTarget,
    sizes: Sizes<'a>,
}

impl Report<'_> {
    fn sizes(&self, text: &mut String) {
        let symbols = &self.graph.symbols;
        let inputs = self.graph.inputs().iter().flat_map(|v| &self.graph.ty(*v).shape);
        let mut named: Vec<SymbolId> = inputs.flat_map(Dim::symbols).collect();
        named.sort();
        named.dedup();
        if named.is_empty() {
            return;
        }
        let _ = writeln!(text, "sizes (numbers below are for the value after =)");
        for id in named {
            let symbol = symbols.get(id);
            let most = match symbol.max {
                ired_graph::dim::UNBOUNDED => "any".to_owned(),
                max => max.to_string(),
            };
            let _ = writeln!(text, "  {:<24} {} to {most}, = {}", symbol.name, symbol.min, self.sizes.of(id));
        }
    }

    fn parameters(&self, text: &mut String) {
        let params = &self.graph.params;
        let bytes: usize = params.iter().map(|param| param.data.len()).sum();
        let _ = writeln!(text, "parameters\n  {} tensors, {}", params.len(), human_bytes(bytes as u64));
        let mut by_type: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        for param in params {
            let entry = by_type.entry(param.dtype.name()).or_default();
            *entry = (entry.0 + 1, entry.1 + param.data.len());
        }
        for (dtype, (count, bytes)) in by_type {
            let _ = writeln!(text, "  {dtype:<24} {count} tensors, {}", human_bytes(bytes as u64));
        }
    }

    fn totals(&self, plan: &Plan, program: &Program<'_>, text: &mut String) {
        let all = self.all_dispatches(plan);
        let work = all
            .iter()
            .fold(Dim::constant(0), |sum, (_, dispatch)| sum + work::operations(self.graph, dispatch));
        let _ = writeln!(
            text,
            "a call\n  {} dispatches of {} kernels\n  {} floating-point or integer operations{}",
            all.len(),
            program.executables.len(),
            self.count(&work),
            self.expression(&work)
        );
        if all.iter().any(|(in_loop, _)| *in_loop) {
            let _ = writeln!(text, "  what is in loops and branches counts once");
        }
        let inputs = self.graph.inputs();
        let dim = |input: usize, axis: usize| {
            self.sizes.evaluate(self.graph.ty(*inputs.get(input)?).shape.get(axis)?)
        };
        let peak = schedule::arena_bytes(&program.module, &dim);
        let peak =
            peak.map_or("not known before the call".to_owned(), |bytes| human_bytes(bytes.max(0) as u64));
        let _ = writeln!(text, "  peak memory besides inputs, outputs and parameters: {peak}");
    }

    fn dispatches(&self, plan: &Plan, text: &mut String) {
        let _ =
            writeln!(text, "dispatches, in the order they run: result, operations, kernel, what was fused");
        for (number, (in_loop, dispatch)) in self.all_dispatches(plan).into_iter().enumerate() {
            let result =
                dispatch.outputs.first().map_or(String::new(), |v| self.type_text(self.graph.ty(*v)));
            let family = kernels::interface(self.graph, dispatch, self.target)
                .map_or("none", |interface| interface.family);
            let mark = if in_loop { '*' } else { ' ' };
            let work = self.count(&work::operations(self.graph, dispatch));
            let fused = work::origins(self.graph, dispatch).join(", ");
            let _ = writeln!(text, "{number:>5}{mark} {result:<32} {work:>9}  {family:<12} {fused}");
        }
    }

    /// Every dispatch, those of nested regions after their holder's; and whether it is in a loop or branch.
    fn all_dispatches<'p>(&self, plan: &'p Plan) -> Vec<(bool, &'p Dispatch)> {
        let mut found = Vec::new();
        self.collect(plan, self.graph.body, false, &mut found);
        found
    }

    fn collect<'p>(
        &self,
        plan: &'p Plan,
        region: ired_graph::RegionId,
        nested: bool,
        found: &mut Vec<(bool, &'p Dispatch)>,
    ) {
        for step in plan.regions.get(&region).into_iter().flatten() {
            match step {
                Step::Dispatch(dispatch) => found.push((nested, dispatch)),
                Step::Control(id) => {
                    for inner in &self.graph.node(*id).regions {
                        self.collect(plan, *inner, true, found);
                    }
                }
                _ => {}
            }
        }
    }

    fn type_text(&self, ty: &TensorType) -> String {
        ty.display(&self.graph.symbols).to_string()
    }

    fn count(&self, work: &Dim) -> String {
        self.sizes.evaluate(work).map_or("?".to_owned(), human_count)
    }

    /// The expression, where it is one and short enough to read.
    fn expression(&self, dim: &Dim) -> String {
        match dim.as_static().is_none() && dim.complexity() <= 12 {
            true => format!(" ({})", dim.display(&self.graph.symbols)),
            false => String::new(),
        }
    }
}

struct Sizes<'a> {
    graph: &'a Graph,
    explain: &'a Explain,
    /// Symbols that are names for sizes the host knows.
    named: HashMap<SymbolId, Dim>,
}

impl<'a> Sizes<'a> {
    fn new(graph: &'a Graph, explain: &'a Explain) -> Self {
        Self { graph, explain, named: work::named_sizes(graph) }
    }

    fn of(&self, id: SymbolId) -> i64 {
        let symbol = self.graph.symbols.get(id);
        let given = self.explain.sizes.iter().find(|(name, _)| *name == symbol.name);
        if let Some(size) = self.named.get(&id).filter(|_| given.is_none()) {
            return self.evaluate(size).unwrap_or(symbol.min);
        }
        let divisor = symbol.divisor.max(1);
        let least = symbol.min.max(1).saturating_add(divisor - 1) / divisor * divisor;
        given.map_or(least, |(_, size)| i64::try_from(*size).unwrap_or(i64::MAX))
    }

    fn evaluate(&self, dim: &Dim) -> Option<i64> {
        dim.evaluate(&|id| Some(self.of(id)))
    }
}

/// Words in lines of readable length.
fn wrapped(words: &[String]) -> String {
    let mut text = String::new();
    let mut line = 0;
    for (i, word) in words.iter().enumerate() {
        if i > 0 {
            text.push_str(if line + word.len() > 100 { ",\n  " } else { ", " });
            line = if line + word.len() > 100 { 0 } else { line };
        }
        text.push_str(word);
        line += word.len() + 2;
    }
    text
}

fn human_bytes(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} bytes"),
        1024..0x10_0000 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        0x10_0000..0x4000_0000 => format!("{:.1} MiB", bytes as f64 / (1u64 << 20) as f64),
        _ => format!("{:.2} GiB", bytes as f64 / (1u64 << 30) as f64),
    }
}

fn human_count(count: i64) -> String {
    match count {
        ..10_000 => count.to_string(),
        10_000..1_000_000 => format!("{:.1} k", count as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} M", count as f64 / 1e6),
        _ => format!("{:.2} G", count as f64 / 1e9),
    }
}
