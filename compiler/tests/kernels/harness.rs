//! One dispatch: built as a graph, compiled, linked, run over its grid, compared with the interpreter.

use std::collections::HashMap;
use std::ffi::{CString, c_void};

use ired_compiler::dispatch::{Binding, Dispatch, KernelInterface, Packing};
use ired_compiler::kernels::{self, KernelError};
use ired_compiler::targets::{CpuTarget, compile_executable};
use ired_compiler::tuning::{Choice, Tunable};
use ired_graph::{DType, Dim, Graph, Op, Param, SymbolId, Tensor, TensorType, ValueId, interpret};
use ired_mlir::{Context, Module, link};

use crate::emulator;

/// Numbers that look random and are the same every time.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// In `low..=high`.
    pub(crate) fn integer(&mut self, low: i64, high: i64) -> i64 {
        low + (self.next() >> 11) as i64 % (high - low + 1)
    }

    pub(crate) fn float(&mut self, low: f64, high: f64) -> f64 {
        low + (self.next() >> 11) as f64 / (1u64 << 53) as f64 * (high - low)
    }

    /// Elements in `low..high`; whole numbers for integers, coin flips for bool, both parts of complex numbers.
    pub(crate) fn tensor(&mut self, dtype: DType, shape: &[u64], low: f64, high: f64) -> Tensor {
        if let Some(part) = dtype.part() {
            let parts = self.tensor(part, &[shape, &[2]].concat(), low, high);
            return Tensor::new(dtype, shape.to_vec(), parts.data().clone()).unwrap();
        }
        let count = shape.iter().product::<u64>();
        if !dtype.holds_integers() {
            let values: Vec<_> = (0..count).map(|_| self.float(low, high)).collect();
            return Tensor::from_f64s(dtype, shape, &values);
        }
        let (low, high) = match dtype {
            DType::Bool => (0, 1),
            _ if dtype.is_unsigned_integer() => (low.max(0.0) as i64, high as i64),
            _ => (low as i64, high as i64),
        };
        let values: Vec<_> = (0..count).map(|_| i128::from(self.integer(low, high))).collect();
        Tensor::from_integers(dtype, shape, &values)
    }
}

/// A graph of one dispatch under construction, with the data it runs on.
pub(crate) struct Case {
    pub(crate) graph: Graph,
    pub(crate) inputs: Vec<Tensor>,
    root: Option<ValueId>,
    symbols: HashMap<SymbolId, i64>,
    /// The kernel family that has to compute it; the best if none is named.
    pub(crate) family: Option<&'static str>,
    /// How a tuning file says to compute it.
    pub(crate) choice: Option<Choice>,
}

impl Case {
    pub(crate) fn new() -> Self {
        let graph = Graph::new("case");
        Self { graph, inputs: Vec::new(), root: None, symbols: HashMap::new(), family: None, choice: None }
    }

    /// An unknown dimension of this size.
    pub(crate) fn symbol(&mut self, name: &str, value: u64) -> Dim {
        let id = self.graph.symbols.named(name);
        self.symbols.insert(id, value as i64);
        Dim::symbol(id)
    }

    /// An input whose type has these dimensions.
    pub(crate) fn input_of(&mut self, tensor: Tensor, shape: Vec<Dim>) -> ValueId {
        let name = format!("in{}", self.inputs.len());
        let ty = TensorType::new(tensor.dtype(), shape);
        self.inputs.push(tensor);
        self.graph.add_input(name, ty)
    }

    pub(crate) fn input(&mut self, tensor: Tensor) -> ValueId {
        let shape = dims(tensor.shape());
        self.input_of(tensor, shape)
    }

    pub(crate) fn param(&mut self, tensor: Tensor) -> ValueId {
        let param = Param {
            name: format!("w{}", self.graph.params.len()),
            dtype: tensor.dtype(),
            shape: tensor.shape().to_vec(),
            data: tensor.data().clone(),
        };
        let id = self.graph.add_param(param);
        self.op(Op::Param(id), &[])
    }

    pub(crate) fn constant(&mut self, tensor: Tensor) -> ValueId {
        self.op(Op::Constant(tensor), &[])
    }

    pub(crate) fn op(&mut self, op: Op, operands: &[ValueId]) -> ValueId {
        let body = self.graph.body;
        self.graph.push(body, op, operands, None).unwrap()[0]
    }

    pub(crate) fn root(&mut self, op: Op, operands: &[ValueId]) -> ValueId {
        let value = self.op(op, operands);
        self.root = Some(value);
        value
    }

    /// The root's result.
    pub(crate) fn root_value(&self) -> ValueId {
        self.root.expect("a case has a root")
    }

    fn dispatch(&self, output: ValueId) -> Dispatch {
        let root = self.root.unwrap_or(output);
        let (mut nodes, mut inputs) = (Vec::new(), self.graph.inputs().to_vec());
        for id in &self.graph.region(self.graph.body).nodes {
            match self.graph.node(*id).op {
                Op::Param(_) => inputs.extend(&self.graph.node(*id).results),
                _ => nodes.push(*id),
            }
        }
        let root = self.graph.producer(root).unwrap();
        Dispatch { name: "case".to_owned(), root, nodes, inputs, outputs: vec![output], choice: self.choice }
    }

    /// Compiles, runs and compares; floats may differ by `tolerance`, relative to the greatest magnitude there
    /// or the element's own, whichever allows more; integers not at all.
    pub(crate) fn check(&mut self, output: ValueId, tolerance: f64) {
        for target in targets() {
            self.check_on(&target, output, tolerance);
        }
    }

    pub(crate) fn check_on(&mut self, target: &CpuTarget, output: ValueId, tolerance: f64) {
        self.graph.set_outputs(self.graph.body, vec![output]);
        let expected = interpret(&self.graph, &self.inputs).unwrap().remove(0);
        let found = self.run(target, output);
        assert_eq!((found.dtype(), found.shape()), (expected.dtype(), expected.shape()));
        if !expected.dtype().holds_integers() {
            let (found, wanted) = (found.to_f64s(), expected.to_f64s());
            let scale = wanted.iter().filter(|x| x.is_finite()).fold(0f64, |m, x| m.max(x.abs()));
            for (i, (f, w)) in found.iter().zip(&wanted).enumerate() {
                let same = f == w || (f.is_nan() && w.is_nan());
                let close = (f - w).abs() <= tolerance * scale.max(1e-30);
                assert!(same || close, "element {i} of {:?}: {f} instead of {w}", expected.shape());
            }
        } else {
            assert_eq!(found.to_integers(), expected.to_integers());
        }
    }

    /// As [`Case::check`], where no bit may differ.
    pub(crate) fn check_bits(&mut self, output: ValueId) {
        for target in targets() {
            self.graph.set_outputs(self.graph.body, vec![output]);
            let expected = interpret(&self.graph, &self.inputs).unwrap().remove(0);
            assert_eq!(self.run(&target, output), expected);
        }
    }

    fn number(&self, dim: &Dim) -> u64 {
        dim.evaluate(&|id| self.symbols.get(&id).copied()).unwrap() as u64
    }

    pub(crate) fn run(&self, target: &CpuTarget, output: ValueId) -> Tensor {
        let mut ready = self.prepare(target, output);
        ready.run();
        for block in &ready.memory {
            block.assert_intact();
        }
        ready.output()
    }

    fn interface(&self, dispatch: &Dispatch, target: &CpuTarget) -> Result<KernelInterface, KernelError> {
        match self.family {
            Some(family) => kernels::interface_by(family, &self.graph, dispatch, target),
            None => kernels::interface(&self.graph, dispatch, target),
        }
    }

    /// Which family computes `output`; none where the one that is named does not.
    pub(crate) fn chosen(&self, target: &CpuTarget, output: ValueId) -> Option<&'static str> {
        self.interface(&self.dispatch(output), target).ok().map(|interface| interface.family)
    }

    /// What can be tuned of it.
    pub(crate) fn tunable(&self, target: &CpuTarget, output: ValueId) -> Option<Tunable> {
        kernels::tunable(&self.graph, &self.dispatch(output), target)
    }

    /// How the weights of `output` are packed.
    pub(crate) fn packing(&self, target: &CpuTarget, output: ValueId) -> Option<Packing> {
        let interface = self.interface(&self.dispatch(output), target).unwrap();
        interface.bindings.into_iter().find_map(|binding| match binding {
            Binding::ReadPacked(_, packing) => Some(packing),
            _ => None,
        })
    }

    /// The code that computes `output` on a machine, which may be another than this one.
    pub(crate) fn image(&self, target: &CpuTarget, output: ValueId) -> Vec<u8> {
        let dispatch = self.dispatch(output);
        let interface = self.interface(&dispatch, target).unwrap();
        image(&self.graph, &dispatch, target, &interface)
    }

    /// Everything but the run itself.
    pub(crate) fn prepare(&self, target: &CpuTarget, output: ValueId) -> Ready {
        let dispatch = self.dispatch(output);
        let interface = self.interface(&dispatch, target).unwrap();
        let kernel = Kernel::compile(&self.graph, &dispatch, target, &interface);
        let ty = self.graph.ty(output);
        let shape: Vec<u64> = ty.shape.iter().map(|d| self.number(d)).collect();
        let bytes = ty.dtype.bytes(shape.iter().product()).unwrap() as usize;
        let memory = interface.bindings.iter().map(|b| self.binding(b, bytes)).collect();
        let constants = interface.constants.iter().map(|d| self.number(d) as i64).collect();
        let grid = interface.grid.clone().map(|d| self.number(&d) as u32);
        let written = interface.bindings.iter().position(|b| matches!(b, Binding::Write(_))).unwrap();
        Ready { kernel, memory, constants, grid, written, dtype: ty.dtype, shape }
    }

    fn data(&self, value: ValueId) -> Tensor {
        if let Some(i) = self.graph.inputs().iter().position(|v| *v == value) {
            return self.inputs[i].clone();
        }
        match self.graph.producer_op(value) {
            Some(Op::Param(id)) => self.graph.param(*id).to_tensor().unwrap(),
            _ => panic!("%{} is not an input", value.0),
        }
    }

    fn binding(&self, binding: &Binding, output_bytes: usize) -> Aligned {
        match binding {
            Binding::Read(value) => Aligned::new(self.data(*value).data()),
            Binding::ReadPacked(value, packing) => {
                let tensor = self.data(*value);
                Aligned::new(&kernels::pack(packing, tensor.dtype(), tensor.shape(), tensor.data()))
            }
            Binding::Write(_) => Aligned::new(&vec![0xa5; output_bytes]),
            Binding::Scratch { bytes } => Aligned::new(&vec![0xa5; self.number(bytes) as usize]),
        }
    }
}

/// A kernel with all it works on.
pub(crate) struct Ready {
    kernel: Kernel,
    memory: Vec<Aligned>,
    constants: Vec<i64>,
    pub(crate) grid: [u32; 3],
    written: usize,
    dtype: DType,
    shape: Vec<u64>,
}

impl Ready {
    /// The whole grid, one workgroup after another.
    pub(crate) fn run(&mut self) {
        if let Code::Foreign { image } = &self.kernel.code {
            return run_foreign(image, &mut self.memory, &self.constants, self.grid);
        }
        let pointers: Vec<*mut u8> = self.memory.iter_mut().map(Aligned::as_mut_ptr).collect();
        let [x, y, z] = self.grid;
        for z in 0..z {
            for y in 0..y {
                for x in 0..x {
                    self.kernel.call(&pointers, &self.constants, [x, y, z]);
                }
            }
        }
    }

    pub(crate) fn output(&self) -> Tensor {
        let data = bytes::Bytes::copy_from_slice(self.memory[self.written].as_slice());
        Tensor::new(self.dtype, self.shape.clone(), data).unwrap()
    }
}

/// This machine, as far as the process may use it; or what is tested instead.
pub(crate) fn host() -> CpuTarget {
    if let Some(targets) = emulator::targets() {
        return targets[0].clone();
    }
    // Asks for tiles: whoever uses them without is ended.
    let present = ired_driver_cpu::features::host_features();
    let usable = CpuTarget::host().unwrap().features.into_iter().filter(|feature| present.contains(feature));
    let text = usable.fold("x86_64-linux".to_owned(), |text, feature| format!("{text},+{feature}"));
    CpuTarget::parse(&text).unwrap()
}

/// The machine, and the smallest x86-64 if that is less; or what is tested instead.
pub(crate) fn targets() -> Vec<CpuTarget> {
    if let Some(targets) = emulator::targets() {
        return targets;
    }
    let host = host();
    let smallest = CpuTarget::parse("x86_64-linux").unwrap();
    if host.vector_bits == smallest.vector_bits { vec![smallest] } else { vec![host, smallest] }
}

/// Whether this machine cannot run what is tested.
pub(crate) fn is_foreign() -> bool {
    emulator::targets().is_some()
}

/// As the example `run_kernel` of the CPU driver does it.
fn run_foreign(image: &[u8], memory: &mut [Aligned], constants: &[i64], grid: [u32; 3]) {
    let mut job = Vec::new();
    let number = |job: &mut Vec<u8>, number: u64| job.extend_from_slice(&number.to_le_bytes());
    number(&mut job, image.len() as u64);
    job.extend_from_slice(image);
    number(&mut job, memory.len() as u64);
    for block in memory.iter() {
        number(&mut job, 64 * block.storage.len() as u64);
        block.storage.iter().for_each(|line| job.extend_from_slice(&line.0));
    }
    number(&mut job, constants.len() as u64);
    constants.iter().for_each(|constant| number(&mut job, *constant as u64));
    grid.iter().for_each(|size| number(&mut job, u64::from(*size)));

    let answer = emulator::run(&job).unwrap();
    let lines = memory.iter_mut().flat_map(|block| &mut block.storage);
    for (line, bytes) in lines.zip(answer.chunks_exact(64)) {
        line.0.copy_from_slice(bytes);
    }
}

pub(crate) fn dims(shape: &[u64]) -> Vec<Dim> {
    shape.iter().map(|d| Dim::constant(*d as i64)).collect()
}

/// Memory at the start of a cache line, with guards on both sides.
pub(crate) struct Aligned {
    storage: Vec<Line>,
    bytes: usize,
}

#[derive(Clone, Copy, PartialEq)]
#[repr(C, align(64))]
struct Line([u8; 64]);

const GUARD: Line = Line([0x5a; 64]);

impl Aligned {
    fn new(data: &[u8]) -> Self {
        let mut storage = vec![GUARD; data.len().div_ceil(64) + 2];
        for (line, bytes) in storage[1..].iter_mut().zip(data.chunks(64)) {
            line.0[..bytes.len()].copy_from_slice(bytes);
        }
        Self { storage, bytes: data.len() }
    }

    fn as_mut_ptr(&mut self) -> *mut u8 {
        self.storage[1..].as_mut_ptr().cast()
    }

    fn as_slice(&self) -> &[u8] {
        // SAFETY: `new` made room for this many bytes after the guard, and lines are bytes without gaps.
        unsafe { std::slice::from_raw_parts(self.storage[1..].as_ptr().cast(), self.bytes) }
    }

    fn assert_intact(&self) {
        let tail = self.bytes.div_ceil(64) * 64 - self.bytes;
        let end = &self.storage[self.storage.len() - 2].0[64 - tail..];
        let whole = self.storage[0] == GUARD && self.storage[self.storage.len() - 1] == GUARD;
        assert!(
            whole && end.iter().all(|b| *b == 0x5a),
            "a kernel wrote outside of its buffer: {} {whole} {end:?}",
            self.bytes
        );
    }
}

fn image(graph: &Graph, dispatch: &Dispatch, target: &CpuTarget, interface: &KernelInterface) -> Vec<u8> {
    let context = Context::new();
    let module = Module::new(&context);
    kernels::emit(graph, dispatch, target, interface, &module.builder(), "kernel").unwrap();
    module.verify().unwrap();
    image_of(&module.to_string(), target)
}

/// Of a module with one function, `kernel`.
pub(crate) fn image_of(text: &str, target: &CpuTarget) -> Vec<u8> {
    let object = compile_executable(text.as_bytes(), target).unwrap();
    link(&[object], &["kernel".to_owned()]).unwrap()
}

type Entry = unsafe extern "C" fn(*const *mut u8, *const i64, u32, u32, u32);

pub(crate) struct Kernel {
    code: Code,
}

enum Code {
    Loaded {
        library: *mut c_void,
        entry: Entry,
    },
    /// For a machine that is not this one.
    Foreign {
        image: Vec<u8>,
    },
}

impl Kernel {
    pub(crate) fn compile(
        graph: &Graph,
        dispatch: &Dispatch,
        target: &CpuTarget,
        interface: &KernelInterface,
    ) -> Self {
        Self::of(image(graph, dispatch, target, interface))
    }

    pub(crate) fn of(image: Vec<u8>) -> Self {
        let code = if is_foreign() { Code::Foreign { image } } else { Self::load(&image) };
        Self { code }
    }

    fn load(image: &[u8]) -> Code {
        // SAFETY: the image is a shared object without constructors that exports `kernel` with this type.
        unsafe {
            // By a name of its own: the loader takes equal names for the same library.
            let mut file = tempfile::NamedTempFile::new().unwrap();
            std::io::Write::write_all(&mut file, image).unwrap();
            let path = CString::new(file.path().as_os_str().as_encoded_bytes()).unwrap();
            let library = libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL);
            assert!(!library.is_null(), "cannot load the image");
            let symbol = libc::dlsym(library, c"kernel".as_ptr());
            assert!(!symbol.is_null());
            Code::Loaded { library, entry: std::mem::transmute::<*mut c_void, Entry>(symbol) }
        }
    }

    pub(crate) fn call(&self, bindings: &[*mut u8], constants: &[i64], [x, y, z]: [u32; 3]) {
        let Code::Loaded { entry, .. } = &self.code else { panic!("a kernel for another machine") };
        // SAFETY: the interface that the kernel was emitted for says what is behind each pointer.
        unsafe { entry(bindings.as_ptr(), constants.as_ptr(), x, y, z) }
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        let Code::Loaded { library, .. } = self.code else { return };
        // SAFETY: the library was loaded here and its entry is called only through `self`.
        unsafe { libc::dlclose(library) };
    }
}
