// Declarations of the `ired` dialect.

#ifndef IRED_H
#define IRED_H

#include "mlir/Bytecode/BytecodeOpInterface.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Dialect.h"
#include "mlir/IR/OpDefinition.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

#include "IredDialect.h.inc"
#define GET_TYPEDEF_CLASSES
#include "IredTypes.h.inc"
#define GET_OP_CLASSES
#include "IredOps.h.inc"

#endif
