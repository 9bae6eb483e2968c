// The `ired` dialect's C++ half: what ODS cannot say, and its registration.

#include "Ired.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/DialectImplementation.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/Bytecode/BytecodeOpInterface.h"
#include "llvm/ADT/TypeSwitch.h"

#include "IredDialect.cpp.inc"
#define GET_TYPEDEF_CLASSES
#include "IredTypes.cpp.inc"
#define GET_OP_CLASSES
#include "IredOps.cpp.inc"

using namespace mlir;

void ired::IredDialect::initialize() {
  addTypes<
#define GET_TYPEDEF_LIST
#include "IredTypes.cpp.inc"
      >();
  addOperations<
#define GET_OP_LIST
#include "IredOps.cpp.inc"
      >();
}

LogicalResult ired::DispatchOp::verify() {
  if (getAccess().size() != getBindings().size())
    return emitOpError() << "has " << getBindings().size() << " bindings and " << getAccess().size()
                         << " access words";
  for (Attribute word : getAccess()) {
    StringRef text = cast<StringAttr>(word).getValue();
    if (text != "r" && text != "w" && text != "rw")
      return emitOpError() << "access is \"r\", \"w\" or \"rw\"; found \"" << text << "\"";
  }
  return success();
}

LogicalResult ired::DispatchOp::verifySymbolUses(SymbolTableCollection &symbols) {
  if (!symbols.lookupNearestSymbolFrom<func::FuncOp>(*this, getKernelAttr()))
    return emitOpError() << "kernel " << getKernel() << " is not a function of an executable";
  return success();
}

LogicalResult ired::FillOp::verify() {
  int64_t width = getWidth();
  if (width != 1 && width != 2 && width != 4 && width != 8)
    return emitOpError() << "width is 1, 2, 4 or 8 bytes; found " << width;
  return success();
}
