//! The whole door, from building IR to an ELF image; one binary, because each links MLIR.

#![allow(unsafe_code, reason = "the linked kernel is called")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::ffi::c_void;
use std::os::fd::{AsRawFd as _, FromRawFd as _};

use ired_mlir::{Context, Error, Machine, Module, TargetSpec, link};

const PROGRAM: &str = r#"module {
  ired.executable @exe {
    func.func @k(%arg0: !llvm.ptr, %arg1: !llvm.ptr, %arg2: i32, %arg3: i32, %arg4: i32) {
      return
    }
  }
  func.func @main(%arg0: !ired.buffer) attributes {ired.entry} {
    %c1 = arith.constant 1 : index
    %c64 = arith.constant 64 : index
    %c0 = arith.constant 0 : index
    %true = arith.constant true
    %0 = ired.input_dim %arg0, 0
    %1 = ired.param 3 "w"
    %2 = ired.alloc %c64
    ired.fill %2 with %c0 {width = 4 : i64}
    ired.dispatch @exe::@k grid(%c1, %c1, %c1) bindings(%arg0, %1, %2) constants(%0) {access = ["r", "r", "w"]}
    ired.barrier
    ired.await
    %3 = ired.load %2[%c0] {dtype = "i64"}
    ired.check %true, "input 0 has the wrong size"
    %4 = ired.slice %2[%c0, %c64]
    ired.copy %4 to %2
    ired.output 0 : %2[%0, %3]
    ired.release %2
    return
  }
}
"#;

fn build_program(module: &Module<'_>) {
    let b = module.builder();
    b.executable("exe", |b| {
        let (pointer, i32_type) = (b.pointer_type(), b.int_type(32));
        b.func("k", &[pointer, pointer, i32_type, i32_type, i32_type], &[], |b, _| b.ret(&[]));
    });
    b.entry("main", 1, |b, inputs| {
        let (one, bytes, zero, yes) = (b.index(1), b.index(64), b.index(0), b.bool(true));
        let dim = b.input_dim(inputs[0], 0);
        let weight = b.param(3, "w");
        let buffer = b.alloc(bytes);
        b.fill(buffer, zero, 4);
        let bindings = [inputs[0], weight, buffer];
        b.dispatch(["exe", "k"], [one, one, one], &bindings, &["r", "r", "w"], &[dim]);
        b.barrier();
        b.await_all();
        let loaded = b.load_scalar(buffer, zero, "i64");
        b.check(yes, "input 0 has the wrong size");
        let part = b.slice(buffer, zero, bytes);
        b.copy(part, buffer);
        b.output(0, buffer, &[dim, loaded]);
        b.release(buffer);
        b.ret(&[]);
    });
}

#[test]
fn a_program_prints_parses_and_verifies() {
    let context = Context::new();
    let module = Module::new(&context);
    build_program(&module);
    module.verify().unwrap();
    let text = module.to_string();
    let mut built: Vec<_> = text.lines().collect();
    let mut expected: Vec<_> = PROGRAM.lines().collect();
    // Constants go to the front in an order that is nobody's business.
    built.sort_unstable();
    expected.sort_unstable();
    assert_eq!(built, expected);
    for source in [text.as_bytes(), &module.to_bytecode(), PROGRAM.as_bytes()] {
        let again = Module::parse(&context, source).unwrap();
        assert_eq!(again.to_string().len(), text.len());
    }
}

#[test]
fn diagnostics_carry_locations() {
    let context = Context::new();
    let wrong_access = PROGRAM.replace(r#""r", "r", "w""#, r#""r", "write", "w""#);
    let Err(Error::Parse(diagnostics)) = Module::parse(&context, wrong_access.as_bytes()) else {
        panic!("an access word that does not exist was accepted");
    };
    assert!(diagnostics[0].message.contains("found \"write\""), "{diagnostics:?}");
    assert!(diagnostics[0].location.contains("16:5"), "{diagnostics:?}");

    let no_kernel = PROGRAM.replace("@exe::@k", "@exe::@missing");
    let Err(Error::Parse(diagnostics)) = Module::parse(&context, no_kernel.as_bytes()) else {
        panic!("a kernel that does not exist was accepted");
    };
    assert!(diagnostics[0].message.contains("@exe::@missing"), "{diagnostics:?}");

    let mut module = Module::parse(&context, PROGRAM.as_bytes()).unwrap();
    assert!(matches!(module.run("builtin.module(no-such-pass)", true), Err(Error::Pipeline { .. })));
}

#[test]
fn unused_pure_operations_die_and_allocations_stay_apart() {
    let context = Context::new();
    let text = r#"func.func @main(%a: !ired.buffer) {
      %c = arith.constant 64 : index
      %dead = ired.input_dim %a, 0
      %x = ired.alloc %c
      %y = ired.alloc %c
      ired.copy %x to %y
      return
    }"#;
    let mut module = Module::parse(&context, text.as_bytes()).unwrap();
    module.run("builtin.module(canonicalize,cse)", true).unwrap();
    let names: Vec<_> = module.op().walk().into_iter().map(|op| op.name()).collect();
    assert_eq!(names.iter().filter(|n| *n == "ired.alloc").count(), 2);
    assert!(!names.iter().any(|n| n == "ired.input_dim"));
}

#[test]
fn erased_operations_leave_a_valid_module() {
    let context = Context::new();
    let module = Module::parse(&context, PROGRAM.as_bytes()).unwrap();
    let main = module.lookup("main").unwrap();
    let output = main.walk().into_iter().find(|op| op.is("ired.output")).unwrap();
    let source = output.operand(0);
    let uses_before = source.uses().len();
    output.erase();
    assert_eq!(source.uses().len(), uses_before - 1);
    module.verify().unwrap();
}

/// Doubles `n` floats, eight at a time: the kernel ABI, a loop, vectors.
fn doubling_kernel(module: &Module<'_>) {
    let b = module.builder();
    let (pointer, i32_type) = (b.pointer_type(), b.int_type(32));
    b.func("double", &[pointer, pointer, i32_type, i32_type, i32_type], &[], |b, arguments| {
        let address = b.element_pointer(arguments[0], 1, b.pointer_type());
        let data = b.memref_of(b.load_pointer(address, b.pointer_type()), b.f32_type());
        let n = b.index_cast(b.load_pointer(arguments[1], b.int_type(64)), b.index_type());
        b.for_loop(b.index(0), n, b.index(8), &[], |b, i, _| {
            let mask = b.mask(b.subi(n, i), 8);
            let zero = b.float(b.vector_type(8, b.f32_type()), 0.0);
            let x = b.masked_load(data, i, mask, zero);
            b.masked_store(b.addf(x, x), data, i, mask);
            Vec::new()
        });
        b.ret(&[]);
    });
}

const LOWER: &str = "builtin.module(convert-vector-to-scf,convert-scf-to-cf,convert-vector-to-llvm,\
                     convert-to-llvm,reconcile-unrealized-casts)";

fn machine() -> Machine {
    Machine::new(&TargetSpec {
        triple: "x86_64-unknown-linux-gnu".to_owned(),
        cpu: "x86-64-v3".to_owned(),
        features: String::new(),
        vector_bits: 256,
        least_vscale: None,
    })
    .unwrap()
}

#[test]
fn a_kernel_becomes_an_image_that_runs() {
    let context = Context::new();
    let mut module = Module::new(&context);
    doubling_kernel(&module);
    module.run(LOWER, true).unwrap();
    let object = machine().emit_object(&module, "default<O2>").unwrap();
    let image = link(&[object], &["double".to_owned()]).unwrap();
    assert_eq!(&image[..4], b"\x7fELF");

    let mut data: Vec<f32> = (0..13u8).map(f32::from).collect();
    let bindings = [std::ptr::null_mut(), data.as_mut_ptr().cast::<u8>()];
    let constants = [13i64];
    type Kernel = unsafe extern "C" fn(*const *mut u8, *const i64, u32, u32, u32);
    // SAFETY: the image exports `double` with the kernel ABI, which touches 13 floats behind binding 1.
    unsafe {
        let descriptor = libc::memfd_create(c"image".as_ptr(), 0);
        let mut file = std::fs::File::from_raw_fd(descriptor);
        std::io::Write::write_all(&mut file, &image).unwrap();
        let path = std::ffi::CString::new(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap();
        let library: *mut c_void = libc::dlopen(path.as_ptr(), libc::RTLD_NOW);
        assert!(!library.is_null());
        let symbol = libc::dlsym(library, c"double".as_ptr());
        assert!(!symbol.is_null());
        let kernel: Kernel = std::mem::transmute(symbol);
        kernel(bindings.as_ptr(), constants.as_ptr(), 0, 0, 0);
        libc::dlclose(library);
    }
    assert!(data.iter().enumerate().all(|(i, x)| *x == 2.0 * i as f32));
}

#[test]
fn an_undefined_symbol_is_an_error() {
    let context = Context::new();
    let text = "func.func private @elsewhere()\nfunc.func @f() {\n call @elsewhere() : () -> ()\n return\n}";
    let mut module = Module::parse(&context, text.as_bytes()).unwrap();
    module.run(LOWER, true).unwrap();
    let object = machine().emit_object(&module, "default<O1>").unwrap();
    let Err(Error::Link(message)) = link(&[object], &["f".to_owned()]) else {
        panic!("an image with an undefined symbol was linked");
    };
    assert!(message.contains("elsewhere"), "{message}");
}

#[test]
fn contexts_work_on_several_threads_at_once() {
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let context = Context::new();
                let mut module = Module::new(&context);
                doubling_kernel(&module);
                module.run(LOWER, true).unwrap();
                let object = machine().emit_object(&module, "default<O2>").unwrap();
                link(&[object], &["double".to_owned()]).unwrap();
            });
        }
    });
}
