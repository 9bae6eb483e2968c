// The in-process ELF linker. Output goes where the arguments say; messages go to the caller's callback.

#include "lld/Common/Driver.h"
#include "mlir-c/Support.h"
#include "llvm/Support/raw_ostream.h"

#include <string>

LLD_HAS_DRIVER(elf)

// Returns 0 when the link succeeded. lld keeps global state: the caller runs one link at a time.
extern "C" int iredLink(const char **arguments, intptr_t count, MlirStringCallback report, void *userData) {
  std::string messages;
  llvm::raw_string_ostream stream(messages);
  const lld::DriverDef drivers[] = {{lld::Gnu, &lld::elf::link}};
  lld::Result result =
      lld::lldMain(llvm::ArrayRef<const char *>(arguments, count), stream, stream, drivers);
  stream.flush();
  report(MlirStringRef{messages.data(), messages.size()}, userData);
  return result.retCode;
}
