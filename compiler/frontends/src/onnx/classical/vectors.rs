//! Support vector machines.

use ired_graph::{BinaryFn, Builder, CompareFn, DType, Dim, ReduceFn, UnaryFn, ValueId};

use super::super::call::{Call, Outcome, invalid, unsupported};
use super::coupling::couple;
use super::{Transform, features_input, floats, labels, largest, name_winners, weights};

pub(in super::super) fn svm_regressor(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let transform = Transform::of(call)?;
    let one_class = call.attributes.flag("one_class", false)?;
    let supports = call.attributes.int_or("n_supports", 0)?;
    let coefficients = floats(call, "coefficients")?;
    let x = features_input(b, call)?;
    let x = b.cast(x, DType::F32)?;
    let kernel = Kernel::of(call)?;
    let (rows, kernel) = match u64::try_from(supports) {
        Ok(0) => (1, Kernel { function: Function::Linear, ..kernel }),
        Ok(rows) => (rows, kernel),
        Err(_) => return invalid(format!("n_supports is {supports}")),
    };
    let support = if supports == 0 { coefficients.clone() } else { floats(call, "support_vectors")? };
    call.attributes.ignore(&["support_vectors"]);
    let dots = kernel.apply(b, call, x, &support, rows)?;
    let mut sum = dots;
    if supports != 0 {
        let column = weights(b, call, DType::F32, &[rows, 1], &coefficients)?;
        sum = b.matmul_broadcast(dots, column)?;
    }
    let rho = floats(call, "rho")?.first().copied().unwrap_or(0.0);
    let score = b.binary_scalar(BinaryFn::Add, sum, rho)?;
    if one_class {
        let (zero, one) = (b.scalar(DType::F32, 0.0)?, b.scalar(DType::F32, 1.0)?);
        let minus = b.scalar(DType::F32, -1.0)?;
        let inside = b.compare_broadcast(CompareFn::Gt, score, zero)?;
        return Ok(b.select_broadcast(inside, one, minus)?);
    }
    transform.apply_to_targets(b, score, 1)
}

/// The labels of the classes that win most duels, and the scores of the duels or probabilities.
pub(in super::super) fn svm_classifier(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome<Vec<ValueId>> {
    let transform = Transform::of(call)?;
    let Some(labels) = labels(b, call, "classlabels_ints", "classlabels_strings")? else {
        return invalid("has no class labels");
    };
    let counts = call.attributes.ints("vectors_per_class")?.unwrap_or_default();
    let counts: Vec<u64> = counts.iter().filter_map(|n| u64::try_from(*n).ok()).collect();
    let classes = labels.len();
    let vectors: u64 = counts.iter().fold(0, |sum: u64, n| sum.saturating_add(*n));
    if counts.len() != classes || vectors == 0 || classes < 2 {
        return unsupported(
            format!("{classes} classes with support vectors {counts:?}"),
            "use LinearClassifier for a linear model",
        );
    }
    let x = features_input(b, call)?;
    let x = b.cast(x, DType::F32)?;
    let dots = Kernel::of(call)?.apply(b, call, x, &floats(call, "support_vectors")?, vectors)?;
    let (coefficients, rho) = (floats(call, "coefficients")?, floats(call, "rho")?);
    let duels = Duels::new(&counts, &coefficients, &rho)?;
    let scores = duels.scores(b, call, dots)?;
    let winners = duels.winners(b, call, scores)?;
    let (slopes, offsets) = (floats(call, "prob_a")?, floats(call, "prob_b")?);
    let scores = match (slopes.as_slice(), offsets.as_slice(), classes) {
        ([], _, 2) => {
            let mirrored = transform == Transform::None;
            transform.apply_to_both(b, scores, mirrored)?
        }
        ([], ..) => transform.apply(b, scores)?,
        (slopes, offsets, _) if slopes.len() == duels.pairs.len() && offsets.len() == slopes.len() => {
            let wins = probabilities(b, call, scores, slopes, offsets)?;
            let shares = couple(b, wins, &duels.pairs, duels.classes)?;
            transform.apply(b, shares)?
        }
        (slopes, offsets, _) => {
            let (slopes, offsets, duels) = (slopes.len(), offsets.len(), duels.pairs.len());
            return invalid(format!("{slopes} numbers in prob_a and {offsets} in prob_b for {duels} duels"));
        }
    };
    Ok(vec![name_winners(b, call, labels, winners)?, scores])
}

/// That the first class of each duel wins, `[n, pairs]`.
fn probabilities(
    b: &mut Builder<'_>,
    call: &Call<'_>,
    scores: ValueId,
    slopes: &[f64],
    offsets: &[f64],
) -> Outcome {
    let pairs = slopes.len() as u64;
    let slopes = weights(b, call, DType::F32, &[pairs], slopes)?;
    let offsets = weights(b, call, DType::F32, &[pairs], offsets)?;
    let scaled = b.binary_broadcast(BinaryFn::Mul, scores, slopes)?;
    let shifted = b.binary_broadcast(BinaryFn::Add, scaled, offsets)?;
    let opposite = b.unary(UnaryFn::Neg, shifted)?;
    let p = b.unary(UnaryFn::Sigmoid, opposite)?;
    let p = b.binary_scalar(BinaryFn::Max, p, 1e-7)?;
    Ok(b.binary_scalar(BinaryFn::Min, p, 1.0 - 1e-7)?)
}

/// Every class against every other, as columns of a matrix over the support vectors.
struct Duels {
    pairs: Vec<(u64, u64)>,
    classes: u64,
    /// `[vectors, pairs]`
    matrix: Vec<f64>,
    vectors: u64,
    rho: Vec<f64>,
}

/// More would be a table of gigabytes.
const MAX_TABLE: u64 = 1 << 26;

impl Duels {
    fn new(counts: &[u64], coefficients: &[f64], rho: &[f64]) -> Outcome<Self> {
        let classes = counts.len() as u64;
        let others = classes.saturating_sub(1);
        let vectors = counts.iter().fold(0, |sum: u64, n| sum.saturating_add(*n));
        let duels = classes.saturating_mul(others) / 2;
        // Before anything is made of them: a small file may state any numbers.
        let fits = |entries: u64| entries <= MAX_TABLE;
        let small = fits(vectors.saturating_mul(duels)) && fits(duels.saturating_mul(classes));
        let expected = [others.saturating_mul(vectors), duels];
        if !small || expected != [coefficients.len() as u64, rho.len() as u64] {
            let (found, offsets) = (coefficients.len(), rho.len());
            return invalid(format!(
                "{found} coefficients and {offsets} offsets for {vectors} vectors of {classes} classes"
            ));
        }
        let pairs: Vec<(u64, u64)> =
            (0..classes).flat_map(|i| (i + 1..classes).map(move |j| (i, j))).collect();
        let starts: Vec<u64> =
            counts.iter().scan(0, |sum, n| Some(std::mem::replace(sum, *sum + n))).collect();
        let mut matrix = vec![0.0; (vectors * pairs.len() as u64) as usize];
        for (column, (i, j)) in pairs.iter().enumerate() {
            // The vectors of each class have a row of coefficients for every other class.
            for (class, row) in [(*i, j - 1), (*j, *i)] {
                for vector in starts[class as usize]..starts[class as usize] + counts[class as usize] {
                    matrix[vector as usize * pairs.len() + column] =
                        coefficients[(row * vectors + vector) as usize];
                }
            }
        }
        Ok(Self { pairs, classes, matrix, vectors, rho: rho.to_vec() })
    }

    /// `[n, pairs]`
    fn scores(&self, b: &mut Builder<'_>, call: &Call<'_>, dots: ValueId) -> Outcome {
        let pairs = self.pairs.len() as u64;
        let matrix = weights(b, call, DType::F32, &[self.vectors, pairs], &self.matrix)?;
        let sums = b.matmul_broadcast(dots, matrix)?;
        let rho = weights(b, call, DType::F32, &[pairs], &self.rho)?;
        Ok(b.binary_broadcast(BinaryFn::Add, sums, rho)?)
    }

    /// The class that wins most duels; ties go to the first.
    fn winners(&self, b: &mut Builder<'_>, call: &Call<'_>, scores: ValueId) -> Outcome {
        let pairs = self.pairs.len() as u64;
        let (mut first, mut second) = (vec![0.0; (pairs * self.classes) as usize], Vec::new());
        second.clone_from(&first);
        for (row, (i, j)) in self.pairs.iter().enumerate() {
            first[row * self.classes as usize + *i as usize] = 1.0;
            second[row * self.classes as usize + *j as usize] = 1.0;
        }
        let shape = [pairs, self.classes];
        let (first, second) =
            (weights(b, call, DType::F32, &shape, &first)?, weights(b, call, DType::F32, &shape, &second)?);
        let zero = b.scalar(DType::F32, 0.0)?;
        let wins = b.compare_broadcast(CompareFn::Gt, scores, zero)?;
        let loses = b.unary(UnaryFn::Not, wins)?;
        let (wins, loses) = (b.cast(wins, DType::F32)?, b.cast(loses, DType::F32)?);
        let (won, lost) = (b.matmul_broadcast(wins, first)?, b.matmul_broadcast(loses, second)?);
        let votes = b.binary_broadcast(BinaryFn::Add, won, lost)?;
        largest(b, votes)
    }
}

#[derive(Clone, Copy)]
enum Function {
    Linear,
    Polynomial,
    Radial,
    Sigmoid,
}

struct Kernel {
    function: Function,
    gamma: f64,
    offset: f64,
    degree: f64,
}

impl Kernel {
    fn of(call: &Call<'_>) -> Outcome<Self> {
        let function = match call.attributes.text("kernel_type")?.unwrap_or("LINEAR") {
            "LINEAR" => Function::Linear,
            "POLY" => Function::Polynomial,
            "RBF" => Function::Radial,
            "SIGMOID" => Function::Sigmoid,
            other => return invalid(format!("kernel_type `{other}`")),
        };
        match floats(call, "kernel_params")?.as_slice() {
            [] => Ok(Self { function, gamma: 0.0, offset: 0.0, degree: 0.0 }),
            &[gamma, offset, degree] => Ok(Self { function, gamma, offset, degree }),
            other => invalid(format!("{} kernel_params; expected 3", other.len())),
        }
    }

    /// The kernel of every row of `x` with every support vector: `[n, rows]`.
    fn apply(&self, b: &mut Builder<'_>, call: &Call<'_>, x: ValueId, vectors: &[f64], rows: u64) -> Outcome {
        if rows == 0 || !(vectors.len() as u64).is_multiple_of(rows) {
            return invalid(format!("{} numbers for {rows} support vectors", vectors.len()));
        }
        let features = vectors.len() as u64 / rows;
        let shape = vec![b.ty(x).shape[0].clone(), Dim::constant(features as i64)];
        let x = b.reshape(x, shape)?;
        let matrix = weights(b, call, DType::F32, &[rows, features], vectors)?;
        let turned = b.transpose(matrix, vec![1, 0])?;
        if let Function::Radial = self.function {
            // Differences rather than |x|² - 2xv + |v|², which cancels.
            let (x, matrix) = (b.unsqueeze(x, &[1])?, b.unsqueeze(matrix, &[0])?);
            let difference = b.binary_broadcast(BinaryFn::Sub, x, matrix)?;
            let square = b.binary_broadcast(BinaryFn::Mul, difference, difference)?;
            let distance = b.reduce(ReduceFn::Sum, square, &[2], false)?;
            let scaled = b.binary_scalar(BinaryFn::Mul, distance, -self.gamma)?;
            return Ok(b.unary(UnaryFn::Exp, scaled)?);
        }
        let dot = b.matmul_broadcast(x, turned)?;
        if let Function::Linear = self.function {
            return Ok(dot);
        }
        let scaled = b.binary_scalar(BinaryFn::Mul, dot, self.gamma)?;
        let shifted = b.binary_scalar(BinaryFn::Add, scaled, self.offset)?;
        Ok(match self.function {
            Function::Sigmoid => b.unary(UnaryFn::Tanh, shifted)?,
            _ => b.binary_scalar(BinaryFn::Pow, shifted, self.degree)?,
        })
    }
}
