//! Host functions of a schedule: run between two pieces, by the thread that carries the call on.

use ired_hal::AllocateError;
use ired_host::{HostError, TensorView};
use ired_module::TensorKind;
use ired_module::code::Function;

use super::Live;
use crate::error::{Fault, InvokeError};
use crate::inputs::Entry;
use crate::invocation::Lease;
use crate::tape::Region;

impl Live {
    /// Runs a host function here and now; its operands are there, and its results are from now on.
    pub(super) fn call_host(
        &mut self,
        entry: &Entry,
        function: &Function,
        call: u32,
    ) -> Result<(), InvokeError> {
        let module = self.instance.module.clone();
        let called = module.host_call(call);
        let crashed = |crash| module.fault(entry.function, crash);
        let operands = self.machine.host_operands(function, &called.operands).map_err(crashed)?;
        let memory = module.device().info().memory_bytes;
        let read_bytes = operands.iter().try_fold(0u64, |sum, (region, _)| sum.checked_add(region.bytes));
        if read_bytes.is_none_or(|bytes| bytes > memory) {
            return Err(InvokeError::Allocate(AllocateError::OutOfMemory { bytes: memory }));
        }
        let _read = self.instance.reserve(read_bytes.unwrap_or(0))?;
        let mut data = Vec::with_capacity(operands.len());
        for (region, _) in &operands {
            data.push(self.read(*region).map_err(|fault| crashed(self.machine.crash_here(fault)))?);
        }
        let views =
            called.operands.iter().zip(&operands).zip(&data).filter_map(|((kind, (_, dims)), data)| {
                let dtype = ired_host::DType::named(kind.dtype.name())?;
                Some(TensorView { dtype, dims, data })
            });
        let views: Vec<TensorView<'_>> = views.collect();
        let limits = ired_host::Limits::default();
        let limits = ired_host::Limits { bytes: limits.bytes.min(memory), ..limits };
        let stop = || self.given_up().is_some();
        let given = ired_host::run_until(&stop, &called.call, &views, &mut self.strings.lock(), limits);
        let given = given.map_err(|cause| match (cause, self.given_up()) {
            (HostError::Stopped { .. }, Some(error)) => error,
            (cause, _) => InvokeError::Host { origin: called.origin.clone(), cause },
        })?;
        let kinds = |kind: &TensorKind| (kind.dtype.name(), kind.rank);
        let found: Vec<_> = given.iter().map(|tensor| (tensor.dtype.name(), tensor.dims.len())).collect();
        let expected: Vec<_> = called.results.iter().map(kinds).collect();
        if found != expected {
            let (found, expected) = (format!("{found:?}"), format!("{expected:?}"));
            return Err(crashed(self.machine.crash_here(Fault::HostResults { found, expected })));
        }
        let sizes: Vec<(u64, &[u64])> =
            given.iter().map(|tensor| (tensor.data.len() as u64, tensor.dims.as_slice())).collect();
        let allocations = self.machine.host_results(function, &sizes).map_err(crashed)?;
        self.memory.resize_with(self.machine.tape.allocations.len(), Lease::default);
        for (index, tensor) in allocations.into_iter().zip(&given) {
            let lease = self.lease(tensor.data.len() as u64)?;
            let written = lease.buffer.as_ref().map_or(Ok(()), |buffer| buffer.write(0, &tensor.data));
            written.map_err(|error| crashed(self.machine.crash_here(Fault::Load(error))))?;
            self.memory[index as usize] = lease;
        }
        Ok(())
    }

    /// The bytes of a region that no work in flight writes to.
    fn read(&self, region: Region) -> Result<Vec<u8>, Fault> {
        let mut data = vec![0; usize::try_from(region.bytes).unwrap_or(usize::MAX)];
        if data.is_empty() {
            return Ok(data);
        }
        let range = self.range(region.space).ok_or(Fault::LoadBeforeAwait)?;
        range.buffer.read(range.offset_bytes + region.offset, &mut data).map_err(Fault::Load)?;
        Ok(data)
    }
}
