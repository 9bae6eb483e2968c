//! Transposes that move the last axis: square tiles are read along one axis, turned in registers, and written along
//! the other, so that memory is only met in whole vectors.

use ired_graph::{Dim, Graph, Op, ValueId};
use ired_mlir::{Builder, Compare, Value};

use super::arithmetic::register_bits;
use super::eval::{Axis, Known, Point};
use super::function::{Function, Site, line, plain_interface, product};
use super::generic::is_smooth;
use super::{Computation, Exactness, Family, KernelError};
use crate::dispatch::{Dispatch, KernelInterface};
use crate::targets::CpuTarget;

pub(super) struct Transpose;

/// Tiles of one workgroup.
const WORKGROUP_TILES: i64 = 64;
/// Larger tiles have more registers in flight than there are.
const MOST_LANES: usize = 16;

impl Family for Transpose {
    fn name(&self) -> &'static str {
        "transpose"
    }

    fn interface(
        &self,
        graph: &Graph,
        dispatch: &Dispatch,
        target: &CpuTarget,
    ) -> Result<Option<KernelInterface>, KernelError> {
        let Some(plan) = Plan::new(graph, dispatch, target) else { return Ok(None) };
        let groups = product(&plan.rows).ceil_div(&Dim::constant(plan.rows_per_group));
        Ok(Some(plain_interface(graph, dispatch, line(groups))))
    }

    // Nothing is rounded.
    fn prove_exact(&self, _: &Computation<'_>) -> Exactness {
        Ok(())
    }

    fn emit(&self, site: &Site<'_, '_>) -> Result<(), KernelError> {
        let plan = site.planned(Plan::new(site.graph, site.dispatch, site.target))?;
        Function::emit(site, false, |f, b| plan.emit(f, b))
    }
}

struct Plan {
    operand: ValueId,
    perm: Vec<usize>,
    /// The result's axis that is consecutive in the operand; the other axis of a tile is the last.
    across: usize,
    lanes: usize,
    /// Sizes of the result's axes before the last, `across` counted in tiles.
    rows: Vec<Dim>,
    rows_per_group: i64,
}

impl Plan {
    fn new(graph: &Graph, dispatch: &Dispatch, target: &CpuTarget) -> Option<Self> {
        let output = *dispatch.outputs.first()?;
        let root = &graph.nodes[dispatch.root.index()];
        let Op::Transpose { perm } = &root.op else { return None };
        let ty = &graph.values[output.index()].ty;
        if dispatch.outputs.len() != 1 || root.results[0] != output || ty.dtype.bits() < 8 {
            return None;
        }
        let last = perm.len() - 1;
        let across = perm.iter().position(|source| *source == last)?;
        let bits = register_bits(ty.dtype);
        let lanes = target.lanes(bits).min(MOST_LANES);
        let small = |axis: usize| ty.shape[axis].as_static().is_some_and(|d| d < lanes as i64 / 2);
        if lanes < 2 || across == last || small(across) || small(last) {
            return None;
        }
        let operand = root.operands[0];
        if !is_smooth(graph, dispatch, operand, last) {
            return None;
        }
        let mut rows = ty.shape[..last].to_vec();
        rows[across] = rows[across].ceil_div(&Dim::constant(lanes as i64));
        let tiles = ty.shape[last].as_static().unwrap_or(256).max(1) / lanes as i64 + 1;
        let rows_per_group = (WORKGROUP_TILES / tiles).max(1);
        Some(Self { operand, perm: perm.clone(), across, lanes, rows, rows_per_group })
    }

    fn emit<'m>(&self, f: &Function<'_, 'm>, b: &Builder<'m>) {
        let size = b.index(self.lanes as i64);
        let length = f.dim(&f.shape(f.output())[self.perm.len() - 1]);
        f.for_own(b, self.rows_per_group, &product(&self.rows), |b, row| {
            let mut axes = f.split_index(b, row, &self.rows);
            axes[self.across].base = b.muli(axes[self.across].base, size);
            b.for_loop(b.index(0), length, size, &[], |b, column, _| {
                let mut axes = axes.clone();
                axes.push(Axis::at(column));
                self.emit_tile(f, b, &axes);
                Vec::new()
            });
        });
    }

    /// The tile whose first element is at `axes` of the result.
    fn emit_tile<'m>(&self, f: &Function<'_, 'm>, b: &Builder<'m>, axes: &[Axis<'m>]) {
        let last = self.perm.len() - 1;
        let shape = f.shape(f.output());
        let size = b.index(self.lanes as i64);
        let left = |axis: usize| b.subi(f.dim(&shape[axis]), axes[axis].base);
        let (across, along) = (left(self.across), left(last));
        let whole = b.andi(b.cmpi(Compare::SignedGe, across, size), b.cmpi(Compare::SignedGe, along, size));
        b.if_else(
            whole,
            &[],
            |b| {
                self.turn(f, b, axes, None);
                Vec::new()
            },
            |b| {
                self.turn(f, b, axes, Some((across, along)));
                Vec::new()
            },
        );
    }

    /// Reads, turns and writes; `left` is how many elements there are across and along, if not all.
    fn turn<'m>(
        &self,
        f: &Function<'_, 'm>,
        b: &Builder<'m>,
        axes: &[Axis<'m>],
        left: Option<(Value<'m>, Value<'m>)>,
    ) {
        let last = self.perm.len() - 1;
        let masks = left.map(|(across, along)| (b.mask(across, self.lanes), b.mask(along, self.lanes)));
        let lines: Vec<_> = (0..self.lanes as i64)
            .map(|line| {
                let mut from = axes.to_vec();
                for (axis, source) in axes.iter().zip(&self.perm) {
                    from[*source] = *axis;
                }
                let column = &mut from[self.perm[last]];
                column.base = b.addi(column.base, b.index(line));
                if let Some((_, along)) = left {
                    // Lines that are not there repeat the last one, and are not written.
                    let most = b.addi(axes[last].base, b.subi(along, b.index(1)));
                    column.base = b.minsi(column.base, most);
                }
                from[last] = Axis::along(axes[self.across].base);
                let point = Point::axes(from, self.lanes, masks.map(|(across, _)| across));
                f.eval_lanes(b, self.operand, &point, &mut Known::default())
            })
            .collect();
        for (line, register) in turn(b, lines).into_iter().enumerate() {
            let mut to = axes.to_vec();
            to[self.across].base = b.addi(to[self.across].base, b.index(line as i64));
            let (offset, _) = f.offset(b, f.output(), &Point::axes(to, 1, None));
            let Some(((across, _), (_, along))) = left.zip(masks) else {
                f.write(b, f.output(), offset, register, None);
                continue;
            };
            b.if_then(b.cmpi(Compare::SignedLt, b.index(line as i64), across), |b| {
                f.write(b, f.output(), offset, register, Some(along));
            });
        }
    }
}

/// Lane `i` of line `j` becomes lane `j` of line `i`: blocks of 1, 2, 4... are exchanged across the diagonal.
pub(super) fn turn<'m>(b: &Builder<'m>, mut lines: Vec<Value<'m>>) -> Vec<Value<'m>> {
    let lanes = lines.len();
    let mut block = 1;
    while block < lanes {
        for line in (0..lanes).filter(|line| line & block == 0) {
            let [x, y] = exchange(b, [lines[line], lines[line | block]], block);
            lines[line] = x;
            lines[line | block] = y;
        }
        block *= 2;
    }
    lines
}

/// A vector whose lane `i` is the sum of all lanes of line `i`.
pub(super) fn sums_of_lines<'m>(b: &Builder<'m>, mut lines: Vec<Value<'m>>) -> Option<Value<'m>> {
    let mut block = 1;
    while lines.len() > 1 {
        lines = lines
            .chunks_exact(2)
            .map(|pair| {
                let [x, y] = exchange(b, [pair[0], pair[1]], block);
                b.addf(x, y)
            })
            .collect();
        block *= 2;
    }
    lines.pop()
}

/// Exchanges every second block of lanes of one line with the block before it of the other.
fn exchange<'m>(b: &Builder<'m>, [x, y]: [Value<'m>; 2], block: usize) -> [Value<'m>; 2] {
    let lanes = x.ty().vector_lanes().unwrap_or(1);
    let pick = |upper: bool| -> Vec<i64> {
        (0..lanes)
            .map(|lane| match (lane & block == 0, upper) {
                (true, false) => lane,
                (true, true) => lane | block,
                (false, false) => lanes + (lane ^ block),
                (false, true) => lanes + lane,
            })
            .map(|lane| lane as i64)
            .collect()
    };
    [false, true].map(|upper| b.shuffle(x, y, &pick(upper)))
}
