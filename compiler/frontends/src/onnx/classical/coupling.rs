//! Probabilities of classes from those of duels between every two of them, in steps as libsvm takes them.

use ired_graph::{BinaryFn, Builder, CompareFn, DType, Dim, Op, ReduceFn, Tensor, UnaryFn, ValueId};

use super::super::call::Outcome;
use super::super::repeat::{Step, repeat, repeat_while};

/// Steps after which it is near enough whatever the errors are.
const MOST_STEPS: f64 = 100.0;

/// `[n, classes]` from the probabilities `[n, pairs]` that the first of a pair wins its duel.
pub(super) fn couple(b: &mut Builder<'_>, wins: ValueId, pairs: &[(u64, u64)], classes: u64) -> Outcome {
    let rows = b.ty(wins).shape[0].clone();
    let width = Dim::constant(classes as i64);
    let duels = Duels::of(b, wins, pairs, classes)?;
    let even = b.full(DType::F32, vec![rows.clone(), width], 1.0 / classes as f64)?;
    let open = b.full(DType::Bool, vec![rows, 1.into()], 1.0)?;
    let steps = b.scalar(DType::F32, 0.0)?;
    let tolerance = 0.005 / classes as f64;
    let results = repeat_while(
        b,
        &[even, open, steps],
        |b, state| {
            let some = b.reduce(ReduceFn::Any, state[1], &[0, 1], false)?;
            let most = b.scalar(DType::F32, MOST_STEPS)?;
            let more = b.compare_broadcast(CompareFn::Lt, state[2], most)?;
            Ok(b.binary_broadcast(BinaryFn::And, some, more)?)
        },
        |b, state| {
            let (open, next) = duels.step(b, state[0], state[1], tolerance)?;
            Ok(vec![next, open, b.binary_scalar(BinaryFn::Add, state[2], 1.0)?])
        },
    )?;
    Ok(results[0])
}

/// The form whose least value the probabilities are at.
struct Duels {
    /// `[n, classes, classes]`
    form: ValueId,
    /// Its diagonal, `[n, classes]`.
    diagonal: ValueId,
    classes: Dim,
}

impl Duels {
    fn of(b: &mut Builder<'_>, wins: ValueId, pairs: &[(u64, u64)], classes: u64) -> Outcome<Self> {
        let rows = b.ty(wins).shape[0].clone();
        let count = pairs.len() as i64;
        // Who wins, who loses, and nothing: the columns of a matrix of all against all.
        let one = b.scalar(DType::F32, 1.0)?;
        let losses = b.binary_broadcast(BinaryFn::Sub, one, wins)?;
        let nothing = b.full(DType::F32, vec![rows.clone(), 1.into()], 0.0)?;
        let columns = b.concat(&[wins, losses, nothing], 1)?;
        let mut places = vec![2 * count; (classes * classes) as usize];
        for (place, (i, j)) in pairs.iter().enumerate() {
            places[(i * classes + j) as usize] = place as i64;
            places[(j * classes + i) as usize] = place as i64 + count;
        }
        let places = b.constant(Tensor::from_i64s(&[classes * classes], &places))?;
        let classes = Dim::constant(classes as i64);
        let square = vec![rows, classes.clone(), classes.clone()];
        let all = b.gather(columns, places, 1)?;
        let beats = b.reshape(all, square)?;
        let beaten = b.transpose(beats, vec![0, 2, 1])?;
        let squares = b.binary_broadcast(BinaryFn::Mul, beaten, beaten)?;
        let diagonal = b.reduce(ReduceFn::Sum, squares, &[2], false)?;
        let products = b.binary_broadcast(BinaryFn::Mul, beats, beaten)?;
        let others = b.unary(UnaryFn::Neg, products)?;
        let table = vec![classes.clone(), classes.clone()];
        let (row, column) = (b.iota(DType::I64, table.clone(), 0)?, b.iota(DType::I64, table, 1)?);
        let is_diagonal = b.compare_broadcast(CompareFn::Eq, row, column)?;
        let wide = b.unsqueeze(diagonal, &[2])?;
        let form = b.select_broadcast(is_diagonal, wide, others)?;
        Ok(Self { form, diagonal, classes })
    }

    /// Which rows are still `open`, and the probabilities of those one round over all classes further on.
    fn step(
        &self,
        b: &mut Builder<'_>,
        p: ValueId,
        open: ValueId,
        tolerance: f64,
    ) -> Outcome<(ValueId, ValueId)> {
        let column = b.unsqueeze(p, &[2])?;
        let slopes = b.push(Op::MatMul, &[self.form, column])?;
        let slopes = b.reshape(slopes, b.ty(p).shape.clone())?;
        let parts = b.binary_broadcast(BinaryFn::Mul, p, slopes)?;
        let value = b.reduce(ReduceFn::Sum, parts, &[1], true)?;
        let errors = b.binary_broadcast(BinaryFn::Sub, slopes, value)?;
        let errors = b.unary(UnaryFn::Abs, errors)?;
        let error = b.reduce(ReduceFn::Max, errors, &[1], true)?;
        let bound = b.scalar(DType::F32, tolerance)?;
        let far = b.compare_broadcast(CompareFn::Ge, error, bound)?;
        let open = b.binary_broadcast(BinaryFn::And, open, far)?;
        let moved = repeat(b, self.classes.clone(), &[p, slopes, value], |b, class, state| {
            Ok(Step { state: self.move_class(b, class, state)?, slices: Vec::new() })
        })?;
        let next = b.select_broadcast(open, moved[0], p)?;
        Ok((open, next))
    }

    /// The probabilities, slopes and value once that of `class` is where it is best alone.
    fn move_class(&self, b: &mut Builder<'_>, class: &Dim, state: &[ValueId]) -> Outcome<Vec<ValueId>> {
        let &[p, slopes, value] = state else { return super::super::call::invalid("a state of other parts") };
        let own = |b: &mut Builder<'_>, all: ValueId| b.slice_axis(all, 1, class.clone(), 1.into());
        let (slope, diagonal, row) = (own(b, slopes)?, own(b, self.diagonal)?, own(b, self.form)?);
        let row = b.reshape(row, b.ty(p).shape.clone())?;
        let missing = b.binary_broadcast(BinaryFn::Sub, value, slope)?;
        let by = b.binary_broadcast(BinaryFn::Div, missing, diagonal)?;
        let sum = b.binary_scalar(BinaryFn::Add, by, 1.0)?;
        let number = b.iota(DType::I64, vec![self.classes.clone()], 0)?;
        let class = b.dim(class.clone())?;
        let is_it = b.compare_broadcast(CompareFn::Eq, number, class)?;
        let zero = b.scalar(DType::F32, 0.0)?;
        let change = b.select_broadcast(is_it, by, zero)?;
        let p = b.binary_broadcast(BinaryFn::Add, p, change)?;
        let p = b.binary_broadcast(BinaryFn::Div, p, sum)?;
        let bent = b.binary_broadcast(BinaryFn::Mul, by, diagonal)?;
        let twice = b.binary_scalar(BinaryFn::Mul, slope, 2.0)?;
        let rise = b.binary_broadcast(BinaryFn::Add, bent, twice)?;
        let rise = b.binary_broadcast(BinaryFn::Mul, by, rise)?;
        let value = b.binary_broadcast(BinaryFn::Add, value, rise)?;
        let value = b.binary_broadcast(BinaryFn::Div, value, sum)?;
        let value = b.binary_broadcast(BinaryFn::Div, value, sum)?;
        let turned = b.binary_broadcast(BinaryFn::Mul, by, row)?;
        let slopes = b.binary_broadcast(BinaryFn::Add, slopes, turned)?;
        let slopes = b.binary_broadcast(BinaryFn::Div, slopes, sum)?;
        Ok(vec![p, slopes, value])
    }
}
