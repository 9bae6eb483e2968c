// The `ired` dialect: one program, its schedule and its executables together.
//
// A program is a module of `ired.executable`s and one `func.func` per entry point. Buffers are untyped byte
// ranges; every scalar is an `index`. Host control flow is scf and cf, host arithmetic is arith.

#ifndef IRED_TD
#define IRED_TD

include "mlir/IR/OpBase.td"
include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/SymbolInterfaces.td"
include "mlir/Interfaces/SideEffectInterfaces.td"

def Ired_Dialect : Dialect {
  let name = "ired";
  let cppNamespace = "::ired";
  let useDefaultTypePrinterParser = 1;
  let summary = "Schedules of device work over untyped buffers";
}

class Ired_Op<string mnemonic, list<Trait> traits = []> : Op<Ired_Dialect, mnemonic, traits>;

def Ired_Buffer : TypeDef<Ired_Dialect, "Buffer">, BuildableType<"$_builder.getType<::ired::BufferType>()"> {
  let mnemonic = "buffer";
  let summary = "A range of device memory, in bytes";
}

def Ired_ExecutableOp : Ired_Op<"executable",
    [IsolatedFromAbove, Symbol, SymbolTable, NoTerminator, NoRegionArguments, SingleBlock]> {
  let summary = "Kernels that are compiled together into one object";
  let arguments = (ins SymbolNameAttr:$sym_name);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = "$sym_name attr-dict-with-keyword $body";
}

def Ired_InputDimOp : Ired_Op<"input_dim", [Pure]> {
  let summary = "The size of one axis of an entry point's input, as the caller passed it";
  let arguments = (ins Ired_Buffer:$input, ConfinedAttr<I64Attr, [IntNonNegative]>:$axis);
  let results = (outs Index:$size);
  let assemblyFormat = "$input `,` $axis attr-dict";
}

def Ired_ParamOp : Ired_Op<"param", [Pure]> {
  let summary = "A parameter stored in the module, as it was written there";
  let arguments = (ins ConfinedAttr<I64Attr, [IntNonNegative]>:$param, StrAttr:$name);
  let results = (outs Ired_Buffer:$result);
  let assemblyFormat = "$param $name attr-dict";
}

def Ired_AllocOp : Ired_Op<"alloc"> {
  let summary = "Transient memory, undefined at first, until its release";
  let arguments = (ins Index:$bytes);
  let results = (outs Res<Ired_Buffer, "", [MemAlloc]>:$result);
  let assemblyFormat = "$bytes attr-dict";
}

def Ired_ReleaseOp : Ired_Op<"release"> {
  let summary = "The end of a buffer's life, once the work recorded before has passed";
  let arguments = (ins Arg<Ired_Buffer, "", [MemFree]>:$buffer);
  let assemblyFormat = "$buffer attr-dict";
}

def Ired_SliceOp : Ired_Op<"slice", [Pure]> {
  let summary = "Part of a buffer; offset and length in bytes";
  let arguments = (ins Ired_Buffer:$source, Index:$offset, Index:$bytes);
  let results = (outs Ired_Buffer:$result);
  let assemblyFormat = "$source `[` $offset `,` $bytes `]` attr-dict";
}

def Ired_DispatchOp : Ired_Op<"dispatch",
    [AttrSizedOperandSegments, DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let summary = "A launch of one kernel over a grid of workgroups";
  let description = [{
    `access` says, binding by binding, what the kernel does to it: "r", "w" (all of it, without reading) or "rw".
  }];
  let arguments = (ins SymbolRefAttr:$kernel, Index:$x, Index:$y, Index:$z,
                       Variadic<Ired_Buffer>:$bindings, Variadic<Index>:$constants, StrArrayAttr:$access);
  let assemblyFormat = [{
    $kernel `grid` `(` $x `,` $y `,` $z `)` `bindings` `(` $bindings `)` `constants` `(` $constants `)` attr-dict
  }];
  let hasVerifier = 1;
}

def Ired_CopyOp : Ired_Op<"copy"> {
  let summary = "Copies a buffer into one of the same length";
  let arguments = (ins Arg<Ired_Buffer, "", [MemRead]>:$source, Arg<Ired_Buffer, "", [MemWrite]>:$target);
  let assemblyFormat = "$source `to` $target attr-dict";
}

def Ired_FillOp : Ired_Op<"fill"> {
  let summary = "Fills a buffer with the low `width` bytes of a pattern";
  let arguments = (ins Arg<Ired_Buffer, "", [MemWrite]>:$target, Index:$pattern, I64Attr:$width);
  let assemblyFormat = "$target `with` $pattern attr-dict";
  let hasVerifier = 1;
}

def Ired_BarrierOp : Ired_Op<"barrier"> {
  let summary = "Work recorded after waits for work recorded before";
  let assemblyFormat = "attr-dict";
}

def Ired_AwaitOp : Ired_Op<"await"> {
  let summary = "The host waits for everything recorded so far";
  let assemblyFormat = "attr-dict";
}

def Ired_LoadOp : Ired_Op<"load"> {
  let summary = "Reads one element of a buffer on the host, after an await; `dtype` as the graph names it";
  let arguments = (ins Arg<Ired_Buffer, "", [MemRead]>:$source, Index:$offset, StrAttr:$dtype);
  let results = (outs Index:$value);
  let assemblyFormat = "$source `[` $offset `]` attr-dict";
}

def Ired_HostCallOp : Ired_Op<"host_call", [AttrSizedOperandSegments, AttrSizedResultSegments]> {
  let summary = "A function that the host runs, after an await: host call `call` of the program";
  let description = [{
    `sources` have `source_dims`, one tensor's after the other's; `targets` are new allocations as large as the
    function decides, and `target_dims` their dimensions.
  }];
  let arguments = (ins Variadic<Ired_Buffer>:$sources, Variadic<Index>:$source_dims,
                       ConfinedAttr<I64Attr, [IntNonNegative]>:$call);
  let results = (outs Variadic<Ired_Buffer>:$targets, Variadic<Index>:$target_dims);
}

def Ired_CheckOp : Ired_Op<"check"> {
  let summary = "Ends the invocation with `message` unless the condition holds";
  let arguments = (ins I1:$condition, StrAttr:$message);
  let assemblyFormat = "$condition `,` $message attr-dict";
}

def Ired_OutputOp : Ired_Op<"output"> {
  let summary = "Hands a buffer to the caller as output number `number`, with its dimensions";
  let arguments = (ins Arg<Ired_Buffer, "", [MemRead]>:$source, Variadic<Index>:$dims,
                       ConfinedAttr<I64Attr, [IntNonNegative]>:$number);
  let assemblyFormat = "$number `:` $source `[` $dims `]` attr-dict";
}

#endif
