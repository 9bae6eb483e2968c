//! What names stand for, and what nodes are imported under.

use std::collections::HashMap;

use ired_graph::{RegionId, ValueId};

use super::super::classical::Maps;
use super::super::opset::Opsets;
use super::super::optional::{Held, Optional};
use super::super::proto::AttributeProto;
use super::super::sequence::Sequence;
use crate::ImportError;

/// How deep functions call functions and branches hold branches, together: importing recurses.
const MAX_DEPTH: usize = 64;

/// What a name stands for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Binding {
    Value(ValueId),
    Sequence(Sequence),
    Optional(Optional),
    /// A sequence of maps.
    Maps(Maps),
    /// Defined by a node that was refused.
    Unknown,
    /// A function's input that its caller leaves out.
    Absent,
}

impl Binding {
    pub(crate) fn value(self) -> Option<ValueId> {
        match self {
            Self::Value(value) => Some(value),
            Self::Sequence(_) | Self::Optional(_) | Self::Maps(_) | Self::Unknown | Self::Absent => None,
        }
    }

    /// The sequence that this is, or that it holds.
    pub(crate) fn sequence(self) -> Option<Sequence> {
        match self {
            Self::Sequence(sequence) | Self::Optional(Optional { held: Held::Sequence(sequence), .. }) => {
                Some(sequence)
            }
            _ => None,
        }
    }

    /// The values it consists of.
    pub(crate) fn parts(self) -> Vec<ValueId> {
        match self {
            Self::Value(value) => vec![value],
            Self::Sequence(Sequence { values, shapes }) => vec![values, shapes],
            Self::Maps(Maps { keys, values }) => vec![keys, values],
            Self::Optional(Optional { present, held }) => match held {
                Held::Nothing => vec![present],
                Held::Value(value) => vec![present, value],
                Held::Sequence(Sequence { values, shapes }) => vec![present, values, shapes],
            },
            Self::Unknown | Self::Absent => Vec::new(),
        }
    }

    /// The same kind of thing, consisting of the next of `parts`.
    pub(crate) fn with_parts(self, parts: &mut impl Iterator<Item = ValueId>) -> Self {
        let mut next = |old: ValueId| parts.next().unwrap_or(old);
        match self {
            Self::Sequence(old) => {
                Self::Sequence(Sequence { values: next(old.values), shapes: next(old.shapes) })
            }
            Self::Maps(old) => Self::Maps(Maps { keys: next(old.keys), values: next(old.values) }),
            Self::Value(old) => Self::Value(next(old)),
            Self::Optional(Optional { present, held }) => {
                let present = next(present);
                let held = match held {
                    Held::Nothing => Held::Nothing,
                    Held::Value(old) => Held::Value(next(old)),
                    Held::Sequence(old) => {
                        Held::Sequence(Sequence { values: next(old.values), shapes: next(old.shapes) })
                    }
                };
                Self::Optional(Optional { present, held })
            }
            Self::Unknown | Self::Absent => self,
        }
    }
}

/// The names of one graph; those of the graphs around it are seen through `parent`.
#[derive(Default)]
pub(crate) struct Scope<'p> {
    pub(super) names: HashMap<String, Binding>,
    pub(super) parent: Option<&'p Scope<'p>>,
}

impl Scope<'_> {
    pub(super) fn find(&self, name: &str) -> Option<Binding> {
        let here = self.names.get(name).copied();
        here.or_else(|| self.parent.and_then(|parent| parent.find(name)))
    }

    pub(super) fn define(&mut self, name: &str, binding: Binding) -> Result<(), ImportError> {
        match self.names.insert(name.to_owned(), binding) {
            None => Ok(()),
            Some(_) => Err(ImportError::DuplicateName { name: name.to_owned() }),
        }
    }
}

/// Domain, name, overload.
pub(super) type FunctionKey<'a> = (&'a str, &'a str, &'a str);

/// What nodes are imported under besides their names.
#[derive(Clone, Copy)]
pub(crate) struct Frame<'f> {
    pub(super) opsets: &'f Opsets,
    /// Where nodes go.
    pub(crate) region: RegionId,
    /// Put before the names of nodes.
    pub(super) prefix: &'f str,
    /// The attributes of the function being inlined.
    pub(super) arguments: Option<&'f HashMap<&'f str, &'f AttributeProto>>,
    /// The function being inlined, and the frame that called it.
    pub(super) caller: Option<(FunctionKey<'f>, &'f Frame<'f>)>,
    pub(super) depth: usize,
}

impl Frame<'_> {
    pub(crate) fn in_region(&self, region: RegionId) -> Self {
        Self { region, ..*self }
    }

    pub(super) fn deeper(&self) -> Result<usize, ImportError> {
        match self.depth < MAX_DEPTH {
            true => Ok(self.depth + 1),
            false => {
                Err(ImportError::Limit { what: "levels of branches and functions", limit: MAX_DEPTH as u64 })
            }
        }
    }

    pub(super) fn is_inside(&self, function: FunctionKey<'_>) -> bool {
        self.caller.is_some_and(|(key, caller)| key == function || caller.is_inside(function))
    }
}
