//! The activation functions of recurrent cells, which have names and numbers in lists of their own.

use ired_graph::{BinaryFn, Builder, CompareFn, UnaryFn, ValueId};

use super::super::activation::{
    exp_minus_one, hard_sigmoid_of, scale, softplus_of, softsign_of, where_negative,
};
use super::super::call::{Call, Outcome, invalid};

/// An activation function with its numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Gate {
    Relu,
    Tanh,
    Sigmoid,
    Affine(f64, f64),
    LeakyRelu(f64),
    ThresholdedRelu(f64),
    ScaledTanh(f64, f64),
    HardSigmoid(f64, f64),
    Elu(f64),
    Softsign,
    Softplus,
}

impl Gate {
    /// The functions that a node names, or else `defaults` for each direction.
    pub(super) fn of(call: &Call<'_>, defaults: &[Gate], directions: usize) -> Outcome<Vec<Gate>> {
        let mut alphas = call.attributes.floats("activation_alpha")?.unwrap_or_default().iter();
        let mut betas = call.attributes.floats("activation_beta")?.unwrap_or_default().iter();
        let Some(names) = call.attributes.texts("activations")? else {
            return Ok(defaults.repeat(directions));
        };
        let wanted = defaults.len() * directions;
        // A list for one direction less is of models that state the default of a list for two.
        if names.len() < wanted {
            return invalid(format!("{} activations; expected {wanted}", names.len()));
        }
        names[..wanted]
            .iter()
            .map(|name| {
                let mut alpha = |default: f64| alphas.next().map_or(default, |alpha| f64::from(*alpha));
                let mut beta = |default: f64| betas.next().map_or(default, |beta| f64::from(*beta));
                Ok(match name.to_ascii_lowercase().as_str() {
                    "relu" => Self::Relu,
                    "tanh" => Self::Tanh,
                    "sigmoid" => Self::Sigmoid,
                    "affine" => Self::Affine(alpha(1.0), beta(0.0)),
                    "leakyrelu" => Self::LeakyRelu(alpha(f64::from(0.01f32))),
                    "thresholdedrelu" => Self::ThresholdedRelu(alpha(1.0)),
                    "scaledtanh" => Self::ScaledTanh(alpha(1.0), beta(1.0)),
                    "hardsigmoid" => Self::HardSigmoid(alpha(f64::from(0.2f32)), beta(0.5)),
                    "elu" => Self::Elu(alpha(1.0)),
                    "softsign" => Self::Softsign,
                    "softplus" => Self::Softplus,
                    _ => return invalid(format!("activation `{name}` is not one of recurrent cells")),
                })
            })
            .collect()
    }

    pub(super) fn apply(self, b: &mut Builder<'_>, x: ValueId) -> Outcome {
        Ok(match self {
            Self::Relu => b.binary_scalar(BinaryFn::Max, x, 0.0)?,
            Self::Tanh => b.unary(UnaryFn::Tanh, x)?,
            Self::Sigmoid => b.unary(UnaryFn::Sigmoid, x)?,
            Self::Affine(alpha, beta) => {
                let scaled = scale(b, x, alpha)?;
                b.binary_scalar(BinaryFn::Add, scaled, beta)?
            }
            Self::LeakyRelu(alpha) => {
                let negative = scale(b, x, alpha)?;
                where_negative(b, x, negative)?
            }
            Self::ThresholdedRelu(alpha) => {
                let (bound, zero) = (b.scalar_like(x, alpha)?, b.scalar_like(x, 0.0)?);
                let above = b.compare_broadcast(CompareFn::Ge, x, bound)?;
                b.select_broadcast(above, x, zero)?
            }
            Self::ScaledTanh(alpha, beta) => {
                let scaled = scale(b, x, beta)?;
                let bent = b.unary(UnaryFn::Tanh, scaled)?;
                scale(b, bent, alpha)?
            }
            Self::HardSigmoid(alpha, beta) => hard_sigmoid_of(b, x, alpha, beta)?,
            Self::Elu(alpha) => {
                let curve = exp_minus_one(b, x)?;
                let negative = scale(b, curve, alpha)?;
                where_negative(b, x, negative)?
            }
            Self::Softsign => softsign_of(b, x)?,
            Self::Softplus => softplus_of(b, x)?,
        })
    }
}
