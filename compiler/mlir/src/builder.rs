//! Makes operations: an insertion point, types and attributes, and a typed constructor per operation in use.
//!
//! Constants go to the front of the enclosing function's entry block, each once. Integer arithmetic on known
//! constants is folded as it is built, which keeps kernels small before any pass runs.

mod arith;
mod control;
mod memory;
mod program;
mod vector;

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::c_void;
use std::rc::Rc;

use mlir_sys as sys;

use crate::context::string_ref;
use crate::ir::{Attribute, Block, Location, Op, Type, Value};

pub use arith::{Compare, FloatCompare};

/// Builds operations at an insertion point. Cloning is cheap and shares the function's constants.
#[derive(Clone)]
pub struct Builder<'m> {
    context: sys::MlirContext,
    block: Block<'m>,
    /// New operations go before this one, or at the block's end.
    before: Option<Op<'m>>,
    location: Location<'m>,
    constants: Rc<Constants<'m>>,
}

/// What is shared by all builders of one function.
struct Constants<'m> {
    /// Where constants go; `None` outside functions, where they are made in place.
    entry: Option<Block<'m>>,
    made: RefCell<HashMap<(*const c_void, *const c_void), Value<'m>>>,
    /// Values of integer and index constants.
    known: RefCell<HashMap<*const c_void, i64>>,
    /// Parsed types and attributes by their text.
    types: RefCell<HashMap<String, Type<'m>>>,
    attributes: RefCell<HashMap<String, Attribute<'m>>>,
}

impl<'m> Constants<'m> {
    fn new(entry: Option<Block<'m>>) -> Rc<Self> {
        Rc::new(Self {
            entry,
            made: RefCell::default(),
            known: RefCell::default(),
            types: RefCell::default(),
            attributes: RefCell::default(),
        })
    }
}

// SAFETY of the calls in this folder: the context outlives `'m`; handles passed in are live; MLIR copies names,
// operands and attributes during the call.

impl<'m> Builder<'m> {
    /// Appends to `block`.
    pub(crate) fn at_end(context: sys::MlirContext, block: Block<'m>) -> Self {
        // SAFETY: see above.
        let location = Location::from_raw(unsafe { sys::mlirLocationUnknownGet(context) });
        Self { context, block, before: None, location, constants: Constants::new(None) }
    }

    /// A builder that inserts before `op`, with constants at the front of the enclosing function.
    pub fn before(op: Op<'m>) -> Option<Self> {
        let block = op.block()?;
        let mut function = op;
        while !function.is("func.func") {
            function = function.parent()?;
        }
        let entry = function.region(0).first_block();
        // SAFETY: see above.
        let context = unsafe { sys::mlirOperationGetContext(op.raw) };
        let location = op.location();
        Some(Self { context, block, before: Some(op), location, constants: Constants::new(entry) })
    }

    /// A builder of the same function that appends to `block`.
    pub fn append_to(&self, block: Block<'m>) -> Self {
        Self { block, before: None, ..self.clone() }
    }

    /// A builder of a new function whose entry block is `block`.
    fn function(&self, block: Block<'m>) -> Self {
        Self { block, before: None, constants: Constants::new(Some(block)), ..self.clone() }
    }

    pub fn block(&self) -> Block<'m> {
        self.block
    }

    /// The same builder, giving operations the name of what they come from, such as `/layer1/conv1`.
    pub fn named(&self, name: &str) -> Self {
        // SAFETY: see above.
        let location = Location::from_raw(unsafe {
            sys::mlirLocationNameGet(
                self.context,
                string_ref(name),
                sys::mlirLocationUnknownGet(self.context),
            )
        });
        Self { location, ..self.clone() }
    }

    // Types.

    pub fn index_type(&self) -> Type<'m> {
        // SAFETY: see above.
        Type::from_raw(unsafe { sys::mlirIndexTypeGet(self.context) })
    }

    /// A signless integer of `bits` bits.
    pub fn int_type(&self, bits: usize) -> Type<'m> {
        // SAFETY: see above.
        Type::from_raw(unsafe { sys::mlirIntegerTypeGet(self.context, bits as u32) })
    }

    pub fn f32_type(&self) -> Type<'m> {
        // SAFETY: see above.
        Type::from_raw(unsafe { sys::mlirF32TypeGet(self.context) })
    }

    pub fn f64_type(&self) -> Type<'m> {
        // SAFETY: see above.
        Type::from_raw(unsafe { sys::mlirF64TypeGet(self.context) })
    }

    pub fn f16_type(&self) -> Type<'m> {
        // SAFETY: see above.
        Type::from_raw(unsafe { sys::mlirF16TypeGet(self.context) })
    }

    pub fn bf16_type(&self) -> Type<'m> {
        // SAFETY: see above.
        Type::from_raw(unsafe { sys::mlirBF16TypeGet(self.context) })
    }

    pub fn vector_type(&self, lanes: usize, element: Type<'m>) -> Type<'m> {
        let shape = [lanes as i64];
        // SAFETY: see above; the shape is copied.
        Type::from_raw(unsafe { sys::mlirVectorTypeGet(1, shape.as_ptr(), element.raw) })
    }

    /// `like`'s shape with another element: a vector type for a vector, the element for a scalar.
    pub fn with_element(&self, like: Type<'m>, element: Type<'m>) -> Type<'m> {
        match like.vector_lanes() {
            Some(lanes) => self.vector_type(lanes, element),
            None => element,
        }
    }

    /// A type from its text, such as `!llvm.ptr`.
    ///
    /// # Panics
    /// When the text, which is ours, is not a type.
    pub fn parse_type(&self, text: &str) -> Type<'m> {
        if let Some(found) = self.constants.types.borrow().get(text) {
            return *found;
        }
        // SAFETY: see above.
        let raw = unsafe { sys::mlirTypeParseGet(self.context, string_ref(text)) };
        let parsed = Type::from_nullable(raw).unwrap_or_else(|| panic!("`{text}` is not a type"));
        self.constants.types.borrow_mut().insert(text.to_owned(), parsed);
        parsed
    }

    pub fn pointer_type(&self) -> Type<'m> {
        self.parse_type("!llvm.ptr")
    }

    /// A one-dimensional memref of unknown size.
    pub fn memref_type(&self, element: Type<'m>) -> Type<'m> {
        let shape = [i64::MIN];
        // SAFETY: see above; `i64::MIN` is MLIR's dynamic size, and the shape is copied.
        unsafe {
            debug_assert_eq!(shape[0], sys::mlirShapedTypeGetDynamicSize());
            let (layout, space) = (sys::mlirAttributeGetNull(), sys::mlirAttributeGetNull());
            Type::from_raw(sys::mlirMemRefTypeGet(element.raw, 1, shape.as_ptr(), layout, space))
        }
    }

    pub fn buffer_type(&self) -> Type<'m> {
        self.parse_type("!ired.buffer")
    }

    pub fn function_type(&self, inputs: &[Type<'m>], results: &[Type<'m>]) -> Type<'m> {
        let inputs: Vec<_> = inputs.iter().map(|t| t.raw).collect();
        let results: Vec<_> = results.iter().map(|t| t.raw).collect();
        // SAFETY: see above; both lists are copied.
        Type::from_raw(unsafe {
            let (n, m) = (inputs.len() as isize, results.len() as isize);
            sys::mlirFunctionTypeGet(self.context, n, inputs.as_ptr(), m, results.as_ptr())
        })
    }

    // Attributes.

    /// An attribute from its text, such as `#vector.kind<add>`.
    ///
    /// # Panics
    /// When the text, which is ours, is not an attribute.
    pub fn parse_attribute(&self, text: &str) -> Attribute<'m> {
        if let Some(found) = self.constants.attributes.borrow().get(text) {
            return *found;
        }
        // SAFETY: see above.
        let raw = unsafe { sys::mlirAttributeParseGet(self.context, string_ref(text)) };
        let parsed = Attribute::from_nullable(raw).unwrap_or_else(|| panic!("`{text}` is not an attribute"));
        self.constants.attributes.borrow_mut().insert(text.to_owned(), parsed);
        parsed
    }

    pub fn unit_attribute(&self) -> Attribute<'m> {
        // SAFETY: see above.
        Attribute::from_raw(unsafe { sys::mlirUnitAttrGet(self.context) })
    }

    pub fn bool_attribute(&self, value: bool) -> Attribute<'m> {
        self.parse_attribute(if value { "true" } else { "false" })
    }

    pub fn string_attribute(&self, text: &str) -> Attribute<'m> {
        // SAFETY: see above.
        Attribute::from_raw(unsafe { sys::mlirStringAttrGet(self.context, string_ref(text)) })
    }

    pub fn type_attribute(&self, ty: Type<'m>) -> Attribute<'m> {
        // SAFETY: see above.
        Attribute::from_raw(unsafe { sys::mlirTypeAttrGet(ty.raw) })
    }

    pub fn integer_attribute(&self, ty: Type<'m>, value: i64) -> Attribute<'m> {
        // SAFETY: see above.
        Attribute::from_raw(unsafe { sys::mlirIntegerAttrGet(ty.raw, value) })
    }

    pub fn i64_attribute(&self, value: i64) -> Attribute<'m> {
        self.integer_attribute(self.int_type(64), value)
    }

    pub fn array_attribute(&self, elements: &[Attribute<'m>]) -> Attribute<'m> {
        let elements: Vec<_> = elements.iter().map(|a| a.raw).collect();
        // SAFETY: see above; the list is copied.
        Attribute::from_raw(unsafe {
            sys::mlirArrayAttrGet(self.context, elements.len() as isize, elements.as_ptr())
        })
    }

    pub fn dense_i64_attribute(&self, values: &[i64]) -> Attribute<'m> {
        // SAFETY: see above; the list is copied.
        Attribute::from_raw(unsafe {
            sys::mlirDenseI64ArrayGet(self.context, values.len() as isize, values.as_ptr())
        })
    }

    pub fn dense_i32_attribute(&self, values: &[i32]) -> Attribute<'m> {
        // SAFETY: see above; the list is copied.
        Attribute::from_raw(unsafe {
            sys::mlirDenseI32ArrayGet(self.context, values.len() as isize, values.as_ptr())
        })
    }

    /// A reference such as `@exe::@kernel`.
    ///
    /// # Panics
    /// When the path is empty.
    pub fn symbol_attribute(&self, path: &[&str]) -> Attribute<'m> {
        let (root, nested) = path.split_first().expect("a symbol path has at least one name");
        let nested: Vec<_> = nested
            .iter()
            // SAFETY: see above.
            .map(|name| unsafe { sys::mlirFlatSymbolRefAttrGet(self.context, string_ref(name)) })
            .collect();
        // SAFETY: see above; the list is copied.
        Attribute::from_raw(unsafe {
            let count = nested.len() as isize;
            sys::mlirSymbolRefAttrGet(self.context, string_ref(root), count, nested.as_ptr())
        })
    }

    // Operations.

    /// Starts any operation by its full name; for those without a constructor of their own.
    pub fn op<'b>(&'b self, name: &str) -> OpBuilder<'b, 'm> {
        // SAFETY: see above; the state is consumed by `OpBuilder::build`.
        let state = unsafe { sys::mlirOperationStateGet(string_ref(name), self.location.raw) };
        OpBuilder { builder: self, name: name.to_owned(), state, pieces: Pieces::default() }
    }

    /// An operation with one result, operands only.
    pub fn simple(&self, name: &str, operands: &[Value<'m>], result: Type<'m>) -> Value<'m> {
        self.op(name).operands(operands).results(&[result]).build().result(0)
    }

    fn insert(&self, op: Op<'m>) {
        // SAFETY: see above; the block takes ownership of the new operation.
        unsafe {
            match self.before {
                Some(next) => sys::mlirBlockInsertOwnedOperationBefore(self.block.raw, next.raw, op.raw),
                None => sys::mlirBlockAppendOwnedOperation(self.block.raw, op.raw),
            }
        }
    }

    /// A region of one block with the given arguments, filled by `fill`.
    pub(crate) fn region(
        &self,
        arguments: &[Type<'m>],
        fill: impl FnOnce(&Builder<'m>, &[Value<'m>]),
    ) -> sys::MlirRegion {
        let types: Vec<_> = arguments.iter().map(|t| t.raw).collect();
        let locations = vec![self.location.raw; types.len()];
        // SAFETY: see above; the region owns the block, and the operation it is given to owns the region.
        let (region, block) = unsafe {
            let region = sys::mlirRegionCreate();
            let block = sys::mlirBlockCreate(types.len() as isize, types.as_ptr(), locations.as_ptr());
            sys::mlirRegionAppendOwnedBlock(region, block);
            (region, Block::from_raw(block))
        };
        let arguments: Vec<_> = block.arguments().collect();
        fill(&self.append_to(block), &arguments);
        region
    }
}

/// An operation being put together.
pub struct OpBuilder<'b, 'm> {
    builder: &'b Builder<'m>,
    name: String,
    state: sys::MlirOperationState,
    pieces: Pieces,
}

/// What MLIR's state points at until the operation is made.
#[derive(Default)]
struct Pieces {
    operands: Vec<sys::MlirValue>,
    results: Vec<sys::MlirType>,
    attributes: Vec<sys::MlirNamedAttribute>,
    regions: Vec<sys::MlirRegion>,
}

impl<'m> OpBuilder<'_, 'm> {
    pub fn operands(mut self, operands: &[Value<'m>]) -> Self {
        self.pieces.operands.extend(operands.iter().map(|v| v.raw));
        self
    }

    pub fn results(mut self, results: &[Type<'m>]) -> Self {
        self.pieces.results.extend(results.iter().map(|t| t.raw));
        self
    }

    pub fn attribute(mut self, name: &str, value: Attribute<'m>) -> Self {
        // SAFETY: see above.
        let name = unsafe { sys::mlirIdentifierGet(self.builder.context, string_ref(name)) };
        self.pieces.attributes.push(sys::MlirNamedAttribute { name, attribute: value.raw });
        self
    }

    /// A region of one block with the given arguments, filled by `fill`.
    pub fn region(mut self, arguments: &[Type<'m>], fill: impl FnOnce(&Builder<'m>, &[Value<'m>])) -> Self {
        self.pieces.regions.push(self.builder.region(arguments, fill));
        self
    }

    pub(crate) fn owned_region(mut self, region: sys::MlirRegion) -> Self {
        self.pieces.regions.push(region);
        self
    }

    /// Inserts the operation.
    ///
    /// # Panics
    /// When MLIR cannot make it at all, which only a name outside the registered dialects causes.
    pub fn build(mut self) -> Op<'m> {
        let pieces = &self.pieces;
        // The name is looked up again: the state holds a view of text that has moved since.
        self.state.name = string_ref(&self.name);
        // SAFETY: see above; the lists live until the operation is made.
        let raw = unsafe {
            let state = &raw mut self.state;
            sys::mlirOperationStateAddOperands(
                state,
                pieces.operands.len() as isize,
                pieces.operands.as_ptr(),
            );
            sys::mlirOperationStateAddResults(state, pieces.results.len() as isize, pieces.results.as_ptr());
            let (attributes, regions) = (&pieces.attributes, &pieces.regions);
            sys::mlirOperationStateAddAttributes(state, attributes.len() as isize, attributes.as_ptr());
            sys::mlirOperationStateAddOwnedRegions(state, regions.len() as isize, regions.as_ptr());
            sys::mlirOperationCreate(state)
        };
        let op = Op::from_nullable(raw).unwrap_or_else(|| panic!("cannot make `{}`", self.name));
        self.builder.insert(op);
        op
    }
}
