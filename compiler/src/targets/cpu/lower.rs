//! Pass pipelines of CPU targets, in MLIR's and LLVM's own notations.

/// Marks a function whose loops LLVM should vectorise; the others are vectors already.
pub(crate) const SCALAR_LOOPS: &str = "ired.scalar_loops";

/// From structured loops, memrefs and vectors to the LLVM dialect.
///
/// Lean on purpose: kernels are built folded and without redundancy, and LLVM cleans up what is left.
pub(super) const TO_LLVM: &str =
    "builtin.module(convert-scf-to-cf,convert-vector-to-llvm,convert-to-llvm,reconcile-unrealized-casts)";

/// For executables written by hand, which may hold more than the kernel families emit.
pub(super) const ANY_TO_LLVM: &str = "builtin.module(func.func(convert-linalg-to-loops),convert-vector-to-scf,\
                                      lower-affine,convert-scf-to-cf,convert-vector-to-llvm,\
                                      expand-strided-metadata,lower-affine,convert-to-llvm,\
                                      reconcile-unrealized-casts)";

/// Whether [`TO_LLVM`] lowers operations of this name.
pub(super) fn is_lean(name: &str) -> bool {
    let (dialect, op) = name.split_once('.').unwrap_or((name, ""));
    match dialect {
        "linalg" | "affine" => false,
        "vector" => !op.starts_with("transfer") && op != "contract",
        "memref" => matches!(op, "load" | "store" | "prefetch" | "global" | "get_global" | "alloca"),
        _ => true,
    }
}

/// For kernels with explicit vectors and register accumulators: little is left to do.
///
/// Without its option, instcombine ends the process where one round was not enough.
pub(super) const LIGHT: &str = "function(sroa,early-cse,instcombine<no-verify-fixpoint>,loop-simplify,lcssa,\
                                loop-mssa(licm),instcombine<no-verify-fixpoint>,simplifycfg)";

/// For scalar loops. The functions carry `no-builtins`, so none becomes a call of memset or memcpy.
pub(super) const VECTORISE: &str = "default<O2>";
