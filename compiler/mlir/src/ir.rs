//! Copyable handles to IR, tied by `'m` to a borrow of the module they live in.
//!
//! Running passes takes the module mutably, which ends every handle. [`Op::erase`] takes an operation out of the
//! IR and empties it but never frees it, because copies of its handle may remain; a compile process is short.

use std::marker::PhantomData;

use mlir_sys as sys;

use crate::context::{print_with, string_ref};

macro_rules! handle {
    ($(#[$doc:meta])* $name:ident, $raw:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub struct $name<'m> {
            pub(crate) raw: sys::$raw,
            lifetime: PhantomData<&'m ()>,
        }

        #[allow(clippy::allow_attributes, dead_code, reason = "not every handle kind is tested for null")]
        impl $name<'_> {
            pub(crate) fn from_raw(raw: sys::$raw) -> Self {
                Self { raw, lifetime: PhantomData }
            }

            pub(crate) fn from_nullable(raw: sys::$raw) -> Option<Self> {
                (!raw.ptr.is_null()).then(|| Self::from_raw(raw))
            }
        }

        impl PartialEq for $name<'_> {
            fn eq(&self, other: &Self) -> bool {
                self.raw.ptr == other.raw.ptr
            }
        }

        impl Eq for $name<'_> {}

        impl std::hash::Hash for $name<'_> {
            fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
                self.raw.ptr.hash(state);
            }
        }
    };
}

handle!(/// An operation.
    Op, MlirOperation);
handle!(/// A list of operations with arguments.
    Block, MlirBlock);
handle!(/// A list of blocks.
    Region, MlirRegion);
handle!(/// An operation's result or a block's argument.
    Value, MlirValue);
handle!(/// A type; equal types are one handle.
    Type, MlirType);
handle!(/// An attribute; equal attributes are one handle.
    Attribute, MlirAttribute);
handle!(/// Where something came from.
    Location, MlirLocation);

// SAFETY of the calls in this file: a handle is made only from live IR, `'m` keeps the module from being changed
// by anything but these handles, and erased operations stay allocated.

impl<'m> Op<'m> {
    /// The full name, such as `scf.for`.
    pub fn name(self) -> String {
        // SAFETY: the operation is live; an identifier's text lives as long as the context.
        let text = unsafe { sys::mlirIdentifierStr(sys::mlirOperationGetName(self.raw)) };
        // SAFETY: MLIR returns a valid range.
        let bytes = unsafe { std::slice::from_raw_parts(text.data.cast::<u8>(), text.length) };
        String::from_utf8_lossy(bytes).into_owned()
    }

    pub fn is(self, name: &str) -> bool {
        self.name() == name
    }

    pub fn location(self) -> Location<'m> {
        // SAFETY: the operation is live.
        Location::from_raw(unsafe { sys::mlirOperationGetLocation(self.raw) })
    }

    /// The operation whose region holds this one.
    pub fn parent(self) -> Option<Op<'m>> {
        // SAFETY: the operation is live.
        Op::from_nullable(unsafe { sys::mlirOperationGetParentOperation(self.raw) })
    }

    pub fn block(self) -> Option<Block<'m>> {
        // SAFETY: the operation is live.
        Block::from_nullable(unsafe { sys::mlirOperationGetBlock(self.raw) })
    }

    pub fn next(self) -> Option<Op<'m>> {
        // SAFETY: the operation is live and in a block.
        Op::from_nullable(unsafe { sys::mlirOperationGetNextInBlock(self.raw) })
    }

    pub fn operand_count(self) -> usize {
        // SAFETY: the operation is live.
        unsafe { sys::mlirOperationGetNumOperands(self.raw) as usize }
    }

    /// # Panics
    /// When there is no such operand.
    pub fn operand(self, index: usize) -> Value<'m> {
        assert!(index < self.operand_count(), "operand {index} of {}", self.operand_count());
        // SAFETY: the operation is live and the index in range.
        Value::from_raw(unsafe { sys::mlirOperationGetOperand(self.raw, index as isize) })
    }

    pub fn operands(self) -> impl Iterator<Item = Value<'m>> {
        (0..self.operand_count()).map(move |i| self.operand(i))
    }

    /// # Panics
    /// When there is no such operand.
    pub fn set_operand(self, index: usize, value: Value<'m>) {
        assert!(index < self.operand_count(), "operand {index} of {}", self.operand_count());
        // SAFETY: the operation is live and the index in range.
        unsafe { sys::mlirOperationSetOperand(self.raw, index as isize, value.raw) }
    }

    pub fn result_count(self) -> usize {
        // SAFETY: the operation is live.
        unsafe { sys::mlirOperationGetNumResults(self.raw) as usize }
    }

    /// # Panics
    /// When there is no such result.
    pub fn result(self, index: usize) -> Value<'m> {
        assert!(index < self.result_count(), "result {index} of {}", self.result_count());
        // SAFETY: the operation is live and the index in range.
        Value::from_raw(unsafe { sys::mlirOperationGetResult(self.raw, index as isize) })
    }

    pub fn results(self) -> impl Iterator<Item = Value<'m>> {
        (0..self.result_count()).map(move |i| self.result(i))
    }

    pub fn region_count(self) -> usize {
        // SAFETY: the operation is live.
        unsafe { sys::mlirOperationGetNumRegions(self.raw) as usize }
    }

    /// # Panics
    /// When there is no such region.
    pub fn region(self, index: usize) -> Region<'m> {
        assert!(index < self.region_count(), "region {index} of {}", self.region_count());
        // SAFETY: the operation is live and the index in range.
        Region::from_raw(unsafe { sys::mlirOperationGetRegion(self.raw, index as isize) })
    }

    pub fn regions(self) -> impl Iterator<Item = Region<'m>> {
        (0..self.region_count()).map(move |i| self.region(i))
    }

    /// An inherent or discardable attribute.
    pub fn attribute(self, name: &str) -> Option<Attribute<'m>> {
        // SAFETY: the operation is live; the name is read during the call.
        Attribute::from_nullable(unsafe { sys::mlirOperationGetAttributeByName(self.raw, string_ref(name)) })
    }

    pub fn set_attribute(self, name: &str, value: Attribute<'m>) {
        // SAFETY: the operation is live; the name is copied.
        unsafe { sys::mlirOperationSetAttributeByName(self.raw, string_ref(name), value.raw) }
    }

    pub fn remove_attribute(self, name: &str) {
        // SAFETY: the operation is live.
        unsafe { sys::mlirOperationRemoveAttributeByName(self.raw, string_ref(name)) };
    }

    /// The symbol this operation defines, if it does.
    pub fn symbol(self) -> Option<String> {
        self.attribute("sym_name")?.as_string()
    }

    /// This operation and all inside it, outer before inner, in order.
    pub fn walk(self) -> Vec<Op<'m>> {
        let mut found = vec![self];
        for region in self.regions() {
            for block in region.blocks() {
                for op in block.ops() {
                    found.extend(op.walk());
                }
            }
        }
        found
    }

    pub fn move_before(self, other: Op<'m>) {
        // SAFETY: both operations are live and `other` is in a block.
        unsafe { sys::mlirOperationMoveBefore(self.raw, other.raw) }
    }

    pub fn move_after(self, other: Op<'m>) {
        // SAFETY: both operations are live and `other` is in a block.
        unsafe { sys::mlirOperationMoveAfter(self.raw, other.raw) }
    }

    /// A copy with the same operands, placed right before this operation.
    pub fn duplicate(self) -> Op<'m> {
        // SAFETY: the operation is live and in a block, which takes the copy over.
        unsafe {
            let copy = sys::mlirOperationClone(self.raw);
            let block = sys::mlirOperationGetBlock(self.raw);
            sys::mlirBlockInsertOwnedOperationBefore(block, self.raw, copy);
            Op::from_raw(copy)
        }
    }

    /// Takes the operation out of the IR. Results that are still used make the module invalid.
    pub fn erase(self) {
        for op in self.walk() {
            // SAFETY: the operation is live; without operands it is in no use list.
            unsafe { sys::mlirOperationSetOperands(op.raw, 0, std::ptr::null()) };
        }
        // SAFETY: the operation is live; detached, it stays allocated for handles that remain.
        unsafe { sys::mlirOperationRemoveFromParent(self.raw) };
    }

    /// The operation's text, in time of its own size: its plain `Display` names the values of all that encloses it.
    pub fn to_local_string(self) -> String {
        print_with(|callback, data| {
            // SAFETY: the operation is live, printing does not change it, and the flags outlive the call.
            unsafe {
                let flags = sys::mlirOpPrintingFlagsCreate();
                sys::mlirOpPrintingFlagsUseLocalScope(flags);
                sys::mlirOperationPrintWithFlags(self.raw, flags, callback, data);
                sys::mlirOpPrintingFlagsDestroy(flags);
            }
        })
    }

    /// Whether the verifier accepts this operation; what it says goes to the context's diagnostics.
    pub fn verifies(self) -> bool {
        // SAFETY: the operation is live.
        unsafe { sys::mlirOperationVerify(self.raw) }
    }
}

impl std::fmt::Display for Op<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // SAFETY: the operation is live and printing does not change it.
        f.write_str(&print_with(|callback, data| unsafe {
            sys::mlirOperationPrint(self.raw, callback, data)
        }))
    }
}

impl<'m> Region<'m> {
    pub fn blocks(self) -> impl Iterator<Item = Block<'m>> {
        // SAFETY: the region is live, and so are its blocks.
        let first = Block::from_nullable(unsafe { sys::mlirRegionGetFirstBlock(self.raw) });
        std::iter::successors(first, |b| {
            // SAFETY: as above.
            Block::from_nullable(unsafe { sys::mlirBlockGetNextInRegion(b.raw) })
        })
    }

    pub fn first_block(self) -> Option<Block<'m>> {
        self.blocks().next()
    }
}

impl<'m> Block<'m> {
    pub fn argument_count(self) -> usize {
        // SAFETY: the block is live.
        unsafe { sys::mlirBlockGetNumArguments(self.raw) as usize }
    }

    /// # Panics
    /// When there is no such argument.
    pub fn argument(self, index: usize) -> Value<'m> {
        assert!(index < self.argument_count(), "argument {index} of {}", self.argument_count());
        // SAFETY: the block is live and the index in range.
        Value::from_raw(unsafe { sys::mlirBlockGetArgument(self.raw, index as isize) })
    }

    pub fn arguments(self) -> impl Iterator<Item = Value<'m>> {
        (0..self.argument_count()).map(move |i| self.argument(i))
    }

    /// Operations in order. Moving or erasing the one just yielded is fine only once the next was taken: collect
    /// first to change the block.
    pub fn ops(self) -> impl Iterator<Item = Op<'m>> {
        // SAFETY: the block is live.
        let first = Op::from_nullable(unsafe { sys::mlirBlockGetFirstOperation(self.raw) });
        std::iter::successors(first, |op| op.next())
    }

    pub fn terminator(self) -> Option<Op<'m>> {
        // SAFETY: the block is live.
        Op::from_nullable(unsafe { sys::mlirBlockGetTerminator(self.raw) })
    }

    pub fn parent(self) -> Option<Op<'m>> {
        // SAFETY: the block is live.
        Op::from_nullable(unsafe { sys::mlirBlockGetParentOperation(self.raw) })
    }
}

impl<'m> Value<'m> {
    pub fn ty(self) -> Type<'m> {
        // SAFETY: the value is live.
        Type::from_raw(unsafe { sys::mlirValueGetType(self.raw) })
    }

    /// The operation whose result this is; `None` for a block's argument.
    pub fn definition(self) -> Option<Op<'m>> {
        // SAFETY: the value is live, and asked for its owner only when it has one.
        unsafe {
            sys::mlirValueIsAOpResult(self.raw).then(|| Op::from_raw(sys::mlirOpResultGetOwner(self.raw)))
        }
    }

    /// The block whose argument this is, and which.
    pub fn block_argument(self) -> Option<(Block<'m>, usize)> {
        // SAFETY: the value is live, and asked for its block only when it has one.
        unsafe {
            sys::mlirValueIsABlockArgument(self.raw).then(|| {
                let block = Block::from_raw(sys::mlirBlockArgumentGetOwner(self.raw));
                (block, sys::mlirBlockArgumentGetArgNumber(self.raw) as usize)
            })
        }
    }

    /// Operations that use this value, with the operand's number; no promise on the order.
    pub fn uses(self) -> Vec<(Op<'m>, usize)> {
        let mut found = Vec::new();
        // SAFETY: the value is live; the list is not changed while it is read.
        unsafe {
            let mut operand = sys::mlirValueGetFirstUse(self.raw);
            while !operand.ptr.is_null() {
                let owner = Op::from_raw(sys::mlirOpOperandGetOwner(operand));
                found.push((owner, sys::mlirOpOperandGetOperandNumber(operand) as usize));
                operand = sys::mlirOpOperandGetNextUse(operand);
            }
        }
        found
    }

    pub fn replace_all_uses(self, with: Value<'m>) {
        // SAFETY: both values are live.
        unsafe { sys::mlirValueReplaceAllUsesOfWith(self.raw, with.raw) }
    }

    /// The number this is, if it is an integer or index constant.
    pub fn as_constant(self) -> Option<i64> {
        let op = self.definition()?;
        if op.is("arith.constant") { op.attribute("value")?.as_integer() } else { None }
    }
}

impl<'m> Type<'m> {
    /// A vector's element type, or the type itself.
    pub fn element(self) -> Type<'m> {
        // SAFETY: the type is live, and asked for an element only when it has one.
        unsafe {
            if sys::mlirTypeIsAShaped(self.raw) {
                Type::from_raw(sys::mlirShapedTypeGetElementType(self.raw))
            } else {
                self
            }
        }
    }

    /// The lanes of a one-dimensional vector type.
    pub fn vector_lanes(self) -> Option<usize> {
        // SAFETY: the type is live, and asked for a dimension only when it is a vector.
        unsafe {
            sys::mlirTypeIsAVector(self.raw).then(|| sys::mlirShapedTypeGetDimSize(self.raw, 0) as usize)
        }
    }

    /// Bits of an integer or float element; `None` for `index` and the rest.
    pub fn bits(self) -> Option<usize> {
        let element = self.element();
        // SAFETY: the type is live, and asked for a width only when it has one.
        unsafe {
            if sys::mlirTypeIsAInteger(element.raw) {
                Some(sys::mlirIntegerTypeGetWidth(element.raw) as usize)
            } else if sys::mlirTypeIsAFloat(element.raw) {
                Some(sys::mlirFloatTypeGetWidth(element.raw) as usize)
            } else {
                None
            }
        }
    }

    pub fn is_float(self) -> bool {
        // SAFETY: the type is live.
        unsafe { sys::mlirTypeIsAFloat(self.element().raw) }
    }

    pub fn is_index(self) -> bool {
        // SAFETY: the type is live.
        unsafe { sys::mlirTypeIsAIndex(self.element().raw) }
    }
}

impl std::fmt::Display for Type<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // SAFETY: the type is live.
        f.write_str(&print_with(|callback, data| unsafe { sys::mlirTypePrint(self.raw, callback, data) }))
    }
}

impl<'m> Attribute<'m> {
    pub fn as_string(self) -> Option<String> {
        // SAFETY: the attribute is live, and read as a string only when it is one.
        unsafe { sys::mlirAttributeIsAString(self.raw).then(|| text(sys::mlirStringAttrGetValue(self.raw))) }
    }

    pub fn as_integer(self) -> Option<i64> {
        // SAFETY: the attribute is live, and read as an integer only when it is one.
        unsafe { sys::mlirAttributeIsAInteger(self.raw).then(|| sys::mlirIntegerAttrGetValueInt(self.raw)) }
    }

    /// The elements of an array attribute.
    pub fn as_array(self) -> Option<Vec<Attribute<'m>>> {
        // SAFETY: the attribute is live, and read as an array only when it is one.
        unsafe {
            sys::mlirAttributeIsAArray(self.raw).then(|| {
                let count = sys::mlirArrayAttrGetNumElements(self.raw);
                (0..count).map(|i| Attribute::from_raw(sys::mlirArrayAttrGetElement(self.raw, i))).collect()
            })
        }
    }

    /// The path of a symbol reference: `@exe::@kernel` gives both names.
    pub fn as_symbol_path(self) -> Option<Vec<String>> {
        // SAFETY: the attribute is live, and read as a reference only when it is one.
        unsafe {
            if !sys::mlirAttributeIsASymbolRef(self.raw) {
                return None;
            }
            let mut path = vec![text(sys::mlirSymbolRefAttrGetRootReference(self.raw))];
            for i in 0..sys::mlirSymbolRefAttrGetNumNestedReferences(self.raw) {
                let nested = sys::mlirSymbolRefAttrGetNestedReference(self.raw, i);
                path.push(text(sys::mlirSymbolRefAttrGetLeafReference(nested)));
            }
            Some(path)
        }
    }
}

impl std::fmt::Display for Attribute<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // SAFETY: the attribute is live.
        f.write_str(&print_with(|callback, data| unsafe {
            sys::mlirAttributePrint(self.raw, callback, data)
        }))
    }
}

impl std::fmt::Display for Location<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // SAFETY: the location is live.
        f.write_str(&print_with(|callback, data| unsafe { sys::mlirLocationPrint(self.raw, callback, data) }))
    }
}

/// # Safety
/// `text` is a valid range during the call.
unsafe fn text(text: sys::MlirStringRef) -> String {
    // SAFETY: the caller's promise.
    let bytes = unsafe { std::slice::from_raw_parts(text.data.cast::<u8>(), text.length) };
    String::from_utf8_lossy(bytes).into_owned()
}
