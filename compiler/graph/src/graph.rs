//! The graph itself: values, nodes, regions; how nodes are added, typed, replaced and removed.

mod build;
mod edit;
mod insert;

pub use build::{Builder, Offset};
pub use edit::Use;

use std::sync::Arc;

use bytes::Bytes;
use ired_host::{StringLimits, StringTable, TableFull};

use crate::dim::Symbols;
use crate::op::Op;
use crate::types::TensorType;
use crate::{DType, Tensor};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub u32);

        impl $name {
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }
    };
}

id!(/// A tensor in the graph, defined once.
    ValueId);
id!(/// An operation in the graph.
    NodeId);
id!(/// A list of nodes with inputs and outputs; the graph's body, or nested in a node.
    RegionId);
id!(/// A weight.
    ParamId);

/// A model as ired understands it.
#[derive(Clone, Debug)]
pub struct Graph {
    pub name: String,
    pub symbols: Symbols,
    /// What the elements of string constants and weights are handles of.
    pub strings: Arc<StringTable>,
    /// By [`ParamId`]; names are unique.
    pub params: Vec<Param>,
    /// By [`ValueId`].
    pub values: Vec<Value>,
    /// By [`NodeId`]. A node that no region lists is not part of the graph any more; [`Graph::compact`] drops it.
    pub nodes: Vec<Node>,
    /// By [`RegionId`].
    pub regions: Vec<Region>,
    /// The region whose inputs and outputs are the model's.
    pub body: RegionId,
}

/// A value's type, its name where the model or the user gave one, and what defines it.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    pub ty: TensorType,
    pub name: Option<String>,
    pub definition: Definition,
}

/// What defines a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Definition {
    /// An input of a region, and its position.
    Input(RegionId, usize),
    /// A result of a node, and its position.
    Result(NodeId, usize),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub op: Op,
    /// As the operation's documentation orders them.
    pub operands: Vec<ValueId>,
    /// One, except of control flow and host functions.
    pub results: Vec<ValueId>,
    /// Of control flow only.
    pub regions: Vec<RegionId>,
    pub origin: Option<Origin>,
}

/// Where a node came from in the user's model, for errors and profiles: `/layer1/conv1 (Conv)`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The node's name in the model.
    pub name: String,
    /// The operator's name in the model's format.
    pub op: String,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Region {
    pub inputs: Vec<ValueId>,
    /// In an order in which every operand is defined before its use.
    pub nodes: Vec<NodeId>,
    pub outputs: Vec<ValueId>,
}

/// A weight; `data` usually is a slice of the mapped model file. Row-major, little-endian, maybe unaligned.
#[derive(Clone, Debug, PartialEq)]
pub struct Param {
    pub name: String,
    pub dtype: DType,
    pub shape: Vec<u64>,
    pub data: Bytes,
}

impl Graph {
    /// The handle of a string constant.
    ///
    /// # Errors
    /// When the graph's table is full.
    pub fn intern(&mut self, text: &[u8]) -> Result<u64, TableFull> {
        Arc::make_mut(&mut self.strings).intern(text)
    }

    /// A table for the strings of one run, over those of the graph.
    pub fn call_strings(&self) -> StringTable {
        StringTable::over(self.strings.clone(), StringLimits::default())
    }
}

impl Param {
    /// The weight as a tensor, sharing its bytes.
    pub fn to_tensor(&self) -> Result<Tensor, crate::tensor::TensorSizeError> {
        Tensor::new(self.dtype, self.shape.clone(), self.data.clone())
    }
}
