//! Which elements of an axis make each element of the resized axis, and with what weight.

use super::super::call::{Outcome, invalid, unsupported};

/// Where an index of the result lies on the input's axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coordinates {
    HalfPixel,
    HalfPixelSymmetric,
    /// As half pixel, but 0 for a result of one element.
    PytorchHalfPixel,
    AlignCorners,
    Asymmetric,
    TfHalfPixelForNn,
}

impl Coordinates {
    pub(super) fn named(name: &str) -> Outcome<Self> {
        Ok(match name {
            "half_pixel" => Self::HalfPixel,
            "half_pixel_symmetric" => Self::HalfPixelSymmetric,
            "pytorch_half_pixel" => Self::PytorchHalfPixel,
            "align_corners" => Self::AlignCorners,
            "asymmetric" => Self::Asymmetric,
            "tf_half_pixel_for_nn" => Self::TfHalfPixelForNn,
            "tf_crop_and_resize" => {
                return unsupported(format!("coordinates `{name}`"), "crop with Slice first");
            }
            other => return invalid(format!("coordinates `{other}`")),
        })
    }

    fn position(self, index: i64, scale: f64, from: i64, to: i64) -> f64 {
        let (index, size, resized) = (index as f64, from as f64, to as f64);
        // What the scale asks for before it is rounded down to a size.
        let exact = scale * size;
        let half_pixel = (index + 0.5) / scale - 0.5;
        match self {
            Self::HalfPixel => half_pixel,
            Self::HalfPixelSymmetric => size / 2.0 * (1.0 - resized / exact) + half_pixel,
            Self::PytorchHalfPixel | Self::AlignCorners if to == 1 => 0.0,
            Self::PytorchHalfPixel => half_pixel,
            Self::AlignCorners => index * (size - 1.0) / (exact - 1.0),
            Self::Asymmetric => index / scale,
            Self::TfHalfPixelForNn => (index + 0.5) / scale,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rounding {
    PreferFloor,
    PreferCeil,
    Floor,
    Ceil,
}

impl Rounding {
    pub(super) fn named(name: &str) -> Outcome<Self> {
        Ok(match name {
            "round_prefer_floor" => Self::PreferFloor,
            "round_prefer_ceil" => Self::PreferCeil,
            "floor" => Self::Floor,
            "ceil" => Self::Ceil,
            other => return invalid(format!("nearest_mode `{other}`")),
        })
    }

    fn apply(self, x: f64) -> f64 {
        match self {
            Self::PreferFloor => (x - 0.5).ceil(),
            Self::PreferCeil => (x + 0.5).floor(),
            Self::Floor => x.floor(),
            Self::Ceil => x.ceil(),
        }
    }
}

pub(super) enum Filter {
    Nearest(Rounding),
    Linear,
    Cubic { a: f64 },
}

impl Filter {
    /// Whether a whole scale only repeats elements.
    pub(super) fn repeats(&self, coordinates: Coordinates) -> bool {
        match self {
            Self::Nearest(rounding) => match coordinates {
                Coordinates::Asymmetric | Coordinates::TfHalfPixelForNn => *rounding == Rounding::Floor,
                Coordinates::HalfPixel => matches!(rounding, Rounding::PreferFloor | Rounding::PreferCeil),
                _ => false,
            },
            Self::Linear | Self::Cubic { .. } => false,
        }
    }

    /// The first element that counts, and the weights from there on.
    fn around(&self, x: f64) -> (f64, Vec<f64>) {
        let (base, t) = (x.floor(), x - x.floor());
        match *self {
            Self::Nearest(rounding) => (rounding.apply(x), vec![1.0]),
            Self::Linear => (base, vec![1.0 - t, t]),
            Self::Cubic { a } => {
                let near = |t: f64| ((a + 2.0) * t - (a + 3.0)) * t * t + 1.0;
                let far = |t: f64| ((a * t - 5.0 * a) * t + 8.0 * a) * t - 4.0 * a;
                (base - 1.0, vec![far(1.0 + t), near(t), near(1.0 - t), far(2.0 - t)])
            }
        }
    }
}

/// One element of the input for each of the result, and its weight; 1 where there are no weights.
pub(super) struct Tap {
    pub(super) indices: Vec<i64>,
    pub(super) weights: Option<Vec<f64>>,
}

pub(super) struct Taps(pub(super) Vec<Tap>);

impl Taps {
    /// For an axis of size `from`, at least 1, that becomes `to`. Elements before the first and after the last are
    /// like those, or, with `exclude_outside`, do not count.
    pub(super) fn compute(
        filter: &Filter,
        coordinates: Coordinates,
        exclude_outside: bool,
        scale: f64,
        from: i64,
        to: i64,
    ) -> Self {
        let count = filter.around(0.0).1.len();
        let weighted = count > 1;
        let mut taps: Vec<Tap> =
            (0..count).map(|_| Tap { indices: Vec::new(), weights: weighted.then(Vec::new) }).collect();
        for index in 0..to {
            let (first, mut weights) = filter.around(coordinates.position(index, scale, from, to));
            let indices: Vec<i64> = (0..count).map(|k| first as i64 + k as i64).collect();
            if exclude_outside {
                for (weight, _) in weights.iter_mut().zip(&indices).filter(|(_, i)| !(0..from).contains(*i)) {
                    *weight = 0.0;
                }
                let sum: f64 = weights.iter().sum();
                weights.iter_mut().for_each(|weight| *weight /= sum);
            }
            for ((tap, index), weight) in taps.iter_mut().zip(indices).zip(weights) {
                tap.indices.push(index.clamp(0, from - 1));
                tap.weights.iter_mut().for_each(|list| list.push(weight));
            }
        }
        Self(taps)
    }
}
