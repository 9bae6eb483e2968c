//! A constant seen through what only moves its elements, without moving them.

use ired_graph::{DType, Op, ValueId};

use crate::passes::rewrite::Rewriter;

/// How far a constant is followed.
const MAX_DEPTH: usize = 16;

/// Elements of a constant in another order, some of them maybe many times.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) source: ValueId,
    pub(super) axes: Vec<Axis>,
}

/// `size` indices, each written in digits of a mixed base, outermost first. A digit of the index counts steps of its
/// stride through the source. Digits may reach further than `size`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Axis {
    pub(super) size: u64,
    pub(super) digits: Vec<Digit>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Digit {
    pub(super) count: u64,
    pub(super) stride: u64,
}

impl Axis {
    fn new(size: u64, digits: Vec<Digit>) -> Self {
        let mut joined: Vec<Digit> = Vec::new();
        for digit in digits.into_iter().filter(|digit| digit.count != 1) {
            match joined.last_mut() {
                Some(outer) if outer.stride == digit.count * digit.stride => {
                    *outer = Digit { count: outer.count * digit.count, ..digit };
                }
                _ => joined.push(digit),
            }
        }
        Self { size, digits: joined }
    }

    /// Leaves the first `size` indices.
    fn cut(&mut self, size: u64) {
        self.size = size;
        let Some((outermost, inner)) = self.digits.split_first_mut() else { return };
        let inner: u64 = inner.iter().map(|digit| digit.count).product();
        if size.is_multiple_of(inner) {
            outermost.count = size / inner;
        }
    }

    fn is_whole(&self) -> bool {
        self.digits.iter().map(|digit| digit.count).product::<u64>() == self.size
    }

    /// Whether this many elements of the source follow each other so.
    pub(super) fn is_run(&self, count: u64, stride: u64) -> bool {
        match self.digits.as_slice() {
            [] => count == 1,
            digits => *digits == [Digit { count, stride }],
        }
    }

    /// Where element `index` is in the source, as far as this axis decides.
    pub(super) fn offset(&self, mut index: u64) -> u64 {
        let mut offset = 0;
        for digit in self.digits.iter().rev() {
            offset += index % digit.count * digit.stride;
            index /= digit.count;
        }
        offset
    }
}

impl View {
    /// `value` as a view of a constant, casts to f32 that change no number left out.
    pub(super) fn of(rw: &Rewriter<'_>, value: ValueId) -> Option<Self> {
        Self::at(rw, value, 0)
    }

    fn at(rw: &Rewriter<'_>, value: ValueId, depth: usize) -> Option<Self> {
        let shape = rw.ty(value).static_shape()?;
        if depth > MAX_DEPTH || ired_graph::tensor::element_count(&shape)? == 0 {
            return None;
        }
        match rw.op(value)? {
            (Op::Constant(_) | Op::Param(_), _) => Some(Self::whole(value, &shape)),
            (Op::Cast(DType::F32), &[inner]) if is_exact(rw.ty(inner).dtype) => {
                Self::at(rw, inner, depth + 1)
            }
            (op, &[inner]) => Self::at(rw, inner, depth + 1)?.moved(op, &shape),
            _ => None,
        }
    }

    fn whole(source: ValueId, shape: &[u64]) -> Self {
        let mut stride = 1;
        let mut axes: Vec<Axis> = shape
            .iter()
            .rev()
            .map(|&count| {
                let digit = Digit { count, stride };
                stride *= count;
                Axis::new(count, vec![digit])
            })
            .collect();
        axes.reverse();
        Self { source, axes }
    }

    /// What `op` makes of it, of this shape. `None` where that is no view, or more than movement.
    pub(super) fn moved(mut self, op: &Op, shape: &[u64]) -> Option<Self> {
        match op {
            Op::Broadcast { .. } => {
                let missing = shape.len() - self.axes.len();
                let axis = |i: usize| match i.checked_sub(missing).map(|i| &self.axes[i]) {
                    Some(axis) if axis.size == shape[i] => axis.clone(),
                    _ => Axis::new(shape[i], vec![Digit { count: shape[i], stride: 0 }]),
                };
                self.axes = (0..shape.len()).map(axis).collect();
            }
            Op::Transpose { perm } => self.axes = perm.iter().map(|&axis| self.axes[axis].clone()).collect(),
            Op::Slice { start, stride, .. } => {
                let from_first = start.iter().all(|s| s.as_static() == Some(0));
                if !from_first || stride.iter().any(|stride| *stride != 1) {
                    return None;
                }
                self.axes.iter_mut().zip(shape).for_each(|(axis, size)| axis.cut(*size));
            }
            Op::Reshape { .. } => self.axes = self.regrouped(shape)?,
            _ => return None,
        }
        Some(self)
    }

    /// The same elements in the same order, as axes of other sizes.
    fn regrouped(&self, shape: &[u64]) -> Option<Vec<Axis>> {
        let kept = || self.axes.iter().filter(|axis| axis.size != 1);
        if kept().map(|axis| axis.size).eq(shape.iter().copied().filter(|size| *size != 1)) {
            let mut kept = kept().cloned();
            let axis = |&size: &u64| if size == 1 { Some(Axis::new(1, Vec::new())) } else { kept.next() };
            return shape.iter().map(axis).collect();
        }
        if !self.axes.iter().all(Axis::is_whole) {
            return None;
        }
        let all = self.axes.iter().flat_map(|axis| axis.digits.clone());
        // What is left of all digits, outermost last.
        let mut rest = Axis::new(0, all.collect()).digits;
        rest.reverse();
        let mut axes = Vec::with_capacity(shape.len());
        for &size in shape {
            let (mut digits, mut missing) = (Vec::new(), size);
            while missing > 1 {
                let digit = rest.pop()?;
                if missing % digit.count == 0 {
                    missing /= digit.count;
                    digits.push(digit);
                } else if digit.count % missing == 0 {
                    let inner = digit.count / missing;
                    digits.push(Digit { count: missing, stride: digit.stride * inner });
                    rest.push(Digit { count: inner, stride: digit.stride });
                    missing = 1;
                } else {
                    return None;
                }
            }
            axes.push(Axis::new(size, digits));
        }
        Some(axes)
    }
}

/// Whether f32 holds every number of a type.
fn is_exact(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::BF16 | DType::F32) || dtype.is_integer() && dtype.bits() <= 16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(shape: &[u64]) -> View {
        View::whole(ValueId(0), shape)
    }

    fn reshape(view: View, shape: &[u64]) -> Option<View> {
        view.moved(&Op::Reshape { shape: Vec::new() }, shape)
    }

    fn digits(axis: &Axis) -> Vec<(u64, u64)> {
        axis.digits.iter().map(|digit| (digit.count, digit.stride)).collect()
    }

    #[test]
    fn one_number_a_block_stays_one_number_a_block() {
        let apart = reshape(view(&[3, 4]), &[3, 4, 1]).unwrap();
        let each = apart.moved(&Op::Broadcast { shape: Vec::new() }, &[3, 4, 8]).unwrap();
        let joined = reshape(each, &[3, 32]).unwrap();
        assert_eq!(digits(&joined.axes[0]), [(3, 4)]);
        assert_eq!(digits(&joined.axes[1]), [(4, 1), (8, 0)]);
        let op = Op::Slice { start: vec![0.into(), 0.into()], size: Vec::new(), stride: vec![1, 1] };
        let cut = joined.clone().moved(&op, &[3, 30]).unwrap();
        assert_eq!([0, 7, 8, 29].map(|i| cut.axes[1].offset(i)), [0, 0, 1, 3]);
        assert_eq!(reshape(cut.clone(), &[3, 1, 30]).unwrap().axes[2], cut.axes[1]);
        let whole = joined.moved(&op, &[3, 16]).unwrap();
        assert_eq!(digits(&whole.axes[1]), [(2, 1), (8, 0)]);
        // What was cut off cannot be joined with what was not.
        assert!(reshape(cut, &[90]).is_none());
    }

    #[test]
    fn digits_are_split_and_joined() {
        let swapped = view(&[6, 4]).moved(&Op::Transpose { perm: vec![1, 0] }, &[4, 6]).unwrap();
        let split = reshape(swapped, &[2, 2, 6]).unwrap();
        assert_eq!(
            split.axes.iter().map(digits).collect::<Vec<_>>(),
            [vec![(2, 2)], vec![(2, 1)], vec![(6, 4)]]
        );
        let back =
            reshape(split, &[4, 6]).unwrap().moved(&Op::Transpose { perm: vec![1, 0] }, &[6, 4]).unwrap();
        assert_eq!(back.axes, view(&[6, 4]).axes);
        assert!(reshape(view(&[6, 4]), &[4, 6]).is_some());
        let swapped = view(&[6, 4]).moved(&Op::Transpose { perm: vec![1, 0] }, &[4, 6]).unwrap();
        assert!(reshape(swapped, &[3, 8]).is_none());
    }
}
