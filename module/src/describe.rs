//! A module as text for people: what it is, what it offers, its code. Written without an allocator.

use core::fmt::{self, Display, Formatter};

use crate::code::{ArithOp, BorrowedInst, Buffer, Inst, Label, RegisterList, Scalar};
use crate::costs::efficient_rows;
use crate::format::SectionKind;
use crate::reader::{DimRef, EntryPointRef, Function, Module, PeakRef, RowsRef, TensorRef};

/// A listing of a module; see [`Module::describe`].
#[derive(Clone, Copy, Debug)]
pub struct Describe<'a> {
    module: Module<'a>,
    code: bool,
}

impl<'a> Module<'a> {
    /// A listing of every variant, with provenance, signature, sections, kernels, parameters and all code.
    pub fn describe(&self) -> Describe<'a> {
        Describe { module: *self, code: true }
    }

    /// The listing without code.
    pub fn summary(&self) -> Describe<'a> {
        Describe { module: *self, code: false }
    }
}

impl Display for Describe<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let variants = self.module.variants();
        let count = variants.len();
        for (number, module) in variants.enumerate() {
            if number > 0 {
                writeln!(f)?;
            }
            if count > 1 {
                writeln!(f, "variant {} of {count}", number + 1)?;
            }
            Self { module, ..*self }.write_variant(f)?;
        }
        Ok(())
    }
}

impl Describe<'_> {
    fn write_variant(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let module = &self.module;
        write_origin(module, f)?;
        for entry in module.entry_points() {
            write_entry_point(module, &entry, f)?;
        }
        for kind in SectionKind::ALL {
            let bytes = module.section(kind).len();
            if bytes > 0 {
                writeln!(f, "section {kind}: {bytes} bytes")?;
            }
        }
        for (index, kernel) in module.entries().enumerate() {
            write!(f, "kernel {index} {:?} (", kernel.symbol)?;
            for (at, access) in kernel.bindings.iter().enumerate() {
                write!(f, "{}{}", if at > 0 { " " } else { "" }, access.name())?;
            }
            writeln!(f, "; {} constants) from {:?}", kernel.constants, kernel.origin)?;
        }
        for (index, call) in
            (0..module.host_calls()).filter_map(|index| Some((index, module.host_call(index)?)))
        {
            let (function, bytes) = (call.function, call.attributes.len());
            writeln!(
                f,
                "host call {index} {function:?} ({bytes} bytes of attributes) from {:?}",
                call.origin
            )?;
        }
        for param in (0..module.params()).filter_map(|index| module.param_ref(index)) {
            writeln!(f, "param {:?}: {} bytes at {}", param.name, param.bytes, param.offset)?;
        }
        if !self.code {
            return Ok(());
        }
        module.iter_functions().enumerate().try_for_each(|(index, function)| {
            writeln!(f)?;
            write_function(module, index, &function, f)
        })
    }
}

fn write_origin(module: &Module<'_>, f: &mut Formatter<'_>) -> fmt::Result {
    if let Some(from) = module.provenance_ref() {
        write!(f, "module of {:?} (", from.model_name)?;
        from.model_digest.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        writeln!(f, ")\ncompiler {}\noptions {}", from.compiler, from.options)?;
    }
    if let Some(target) = module.target_ref() {
        write!(f, "target {}", target.triple)?;
        for feature in target.features {
            write!(f, " {feature}")?;
        }
        writeln!(f)?;
    }
    Ok(())
}

fn write_entry_point(module: &Module<'_>, entry: &EntryPointRef<'_>, f: &mut Formatter<'_>) -> fmt::Result {
    writeln!(f, "entry {:?} = function {}", entry.name, entry.function)?;
    for tensor in entry.inputs {
        writeln!(f, "  in  {tensor}")?;
    }
    for tensor in entry.outputs {
        writeln!(f, "  out {tensor}")?;
    }
    match entry.rows {
        RowsRef::Independent { exact: Ok(()), .. } => {
            writeln!(f, "  rows are independent, each the same bits whatever is beside it")?;
        }
        RowsRef::Independent { exact: Err(reason), .. } => {
            writeln!(f, "  rows are independent, but for rounding: {}", reason.escape_debug())?;
        }
        RowsRef::Dependent { reason } => {
            writeln!(f, "  rows are not known to be independent: {}", reason.escape_debug())?;
        }
    }
    if let RowsRef::Independent { costs, .. } = entry.rows
        && { costs }.next().is_some()
    {
        write!(f, "  a row costs less with so many:")?;
        efficient_rows(costs).try_for_each(|rows| write!(f, " {rows}"))?;
        writeln!(f)?;
    }
    match entry.peak {
        PeakRef::Static(bytes) => write!(f, "  peak {bytes} bytes")?,
        PeakRef::Function(function) => write!(f, "  peak by function {function}")?,
    }
    // Compiled code lets go of what it takes when a call is under way, and of nothing else.
    let code = module.function(entry.function);
    let more = code.is_some_and(|c| c.instructions().any(|(_, inst)| matches!(inst, Inst::Release { .. })));
    writeln!(f, "{}", if more { ", and what data decides" } else { "" })
}

/// `"x": f32[batch in 1..=64, 3]`.
impl Display for TensorRef<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}[", self.name, self.dtype)?;
        for (axis, dim) in self.dims.enumerate() {
            f.write_str(if axis > 0 { ", " } else { "" })?;
            match dim {
                DimRef::Static(size) => write!(f, "{size}")?,
                DimRef::Symbolic { name, min, max } => write!(f, "{name} in {min}..={max}")?,
            }
        }
        f.write_str("]")
    }
}

fn write_function(
    module: &Module<'_>,
    index: usize,
    function: &Function<'_>,
    f: &mut Formatter<'_>,
) -> fmt::Result {
    write!(f, "function {index} {:?} (ranks", function.name)?;
    (0..function.inputs).filter_map(|i| function.input_rank(i)).try_for_each(|rank| write!(f, " {rank}"))?;
    f.write_str(" ->")?;
    (0..function.outputs)
        .filter_map(|i| function.output_rank(i))
        .try_for_each(|rank| write!(f, " {rank}"))?;
    writeln!(f, "), {} scalars, {} buffers", function.scalars, function.buffers)?;
    for (pc, inst) in function.instructions() {
        write!(f, "{pc:6}: ")?;
        write_inst(module, &inst, f)?;
        writeln!(f)?;
    }
    Ok(())
}

struct S(Scalar);
struct B(Buffer);

impl Display for S {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "s{}", self.0.0)
    }
}

impl Display for B {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "b{}", self.0.0)
    }
}

/// Writes `items` with commas between.
fn write_list<Register: From<u16>, Shown: Display>(
    list: &RegisterList<'_, Register>,
    show: impl Fn(Register) -> Shown,
    f: &mut Formatter<'_>,
) -> fmt::Result {
    for (index, item) in list.iter().enumerate() {
        write!(f, "{}{}", if index > 0 { ", " } else { "" }, show(item))?;
    }
    Ok(())
}

fn write_inst(module: &Module<'_>, inst: &BorrowedInst<'_>, f: &mut Formatter<'_>) -> fmt::Result {
    let s = |scalar: &Scalar| S(*scalar);
    let b = |buffer: &Buffer| B(*buffer);
    match inst {
        Inst::Constant { dst, value } => write!(f, "{} = {value}", s(dst)),
        Inst::Arith { op, dst, lhs, rhs } => write!(f, "{} = {} {}, {}", s(dst), op.name(), s(lhs), s(rhs)),
        Inst::Select { dst, condition, then, otherwise } => {
            write!(f, "{} = select {}, {}, {}", s(dst), s(condition), s(then), s(otherwise))
        }
        Inst::Move { dst, src } => write!(f, "{} = {}", s(dst), s(src)),
        Inst::Jump { to: Label(to) } => write!(f, "jump {to}"),
        Inst::JumpIf { condition, to: Label(to) } => write!(f, "jump {to} if {}", s(condition)),
        Inst::Check { condition, message } => {
            write!(f, "check {} {:?}", s(condition), module.string(*message).unwrap_or(""))
        }
        Inst::InputDim { dst, input, axis } => write!(f, "{} = dim {axis} of input {input}", s(dst)),
        Inst::Input { dst, input } => write!(f, "{} = input {input}", b(dst)),
        Inst::Param { dst, param } => {
            let name = module.param_ref(*param).map_or("", |param| param.name);
            write!(f, "{} = param {param} {name:?}", b(dst))
        }
        Inst::Allocate { dst, bytes } => write!(f, "{} = allocate {}", b(dst), s(bytes)),
        Inst::Release { buffer } => write!(f, "release {}", b(buffer)),
        Inst::Slice { dst, src, offset, bytes } => {
            write!(f, "{} = slice {} at {} bytes {}", b(dst), b(src), s(offset), s(bytes))
        }
        Inst::MoveBuffer { dst, src } => write!(f, "{} = {}", b(dst), b(src)),
        Inst::Output { output, src, dims } => {
            write!(f, "output {output} = {} as [", b(src))?;
            write_list(dims, S, f)?;
            f.write_str("]")
        }
        Inst::Dispatch { entry, grid: [x, y, z], bindings, constants } => {
            write!(f, "dispatch kernel {entry} over {} {} {} with [", s(x), s(y), s(z))?;
            write_list(bindings, B, f)?;
            f.write_str("] [")?;
            write_list(constants, S, f)?;
            f.write_str("]")
        }
        Inst::Copy { src, dst } => write!(f, "copy {} to {}", b(src), b(dst)),
        Inst::Fill { dst, pattern, width } => {
            write!(f, "fill {} with {} bytes of {}", b(dst), width, s(pattern))
        }
        Inst::Barrier => f.write_str("barrier"),
        Inst::Await => f.write_str("await"),
        Inst::Load { dst, src, offset, dtype } => {
            write!(f, "{} = load {dtype} of {} at {}", s(dst), b(src), s(offset))
        }
        Inst::HostCall { call, operands, operand_dims, results, dims } => {
            write_list(results, B, f)?;
            f.write_str(" [")?;
            write_list(dims, S, f)?;
            match module.host_call(*call) {
                Some(call) => write!(f, "] = host {:?} ", call.function)?,
                None => write!(f, "] = host {call} ")?,
            }
            write_list(operands, B, f)?;
            f.write_str(" [")?;
            write_list(operand_dims, S, f)?;
            f.write_str("]")
        }
        Inst::Return => f.write_str("return"),
        Inst::ReturnScalar { value } => write!(f, "return {}", s(value)),
    }
}

impl ArithOp {
    /// The name that listings use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Sub => "sub",
            Self::Mul => "mul",
            Self::FloorDiv => "floordiv",
            Self::CeilDiv => "ceildiv",
            Self::Mod => "mod",
            Self::Min => "min",
            Self::Max => "max",
            Self::Eq => "eq",
            Self::Ne => "ne",
            Self::Lt => "lt",
            Self::Le => "le",
            Self::And => "and",
            Self::Or => "or",
        }
    }
}
