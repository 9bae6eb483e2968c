//! Runs a module once on the CPU: for tests of code for machines that this one only emulates.
//!
//! Reads from standard input, numbers as u64 in little-endian order: the module with its length in front; how many inputs,
//! then each as the name of its type with its length in front, how many dimensions, these, and its bytes with their number in
//! front. Writes the outputs of the entry point `main` in the same way. Strings are not tensors here. Arguments name features
//! that the machine has although its system, or who plays that, does not say so.

use std::io::{self, Read, Write};
use std::sync::Arc;

use ired_driver_cpu::features::host_features;
use ired_driver_cpu::{CpuConfig, CpuDevice};
use ired_hal::validate::Validated;
use ired_hal::{BufferRange, Device, HostMemory};
use ired_module::DType;
use ired_runtime::{BoundTensor, InstanceOptions, LoadedModule};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut job = Vec::new();
    io::stdin().lock().read_to_end(&mut job)?;
    let mut job = Job { rest: &job };
    let features = host_features().into_iter().chain(std::env::args().skip(1)).collect();
    let config = CpuConfig { features: Some(features), ..CpuConfig::default() };
    let device: Arc<dyn Device> = Arc::new(Validated::new(Arc::new(CpuDevice::new(&config)?)));
    let module = LoadedModule::load(device.clone(), job.bytes()?.to_vec())?;

    let mut inputs = Vec::new();
    for _ in 0..job.number()? {
        let name = job.bytes()?;
        let dtype =
            DType::ALL.iter().find(|dtype| dtype.name().as_bytes() == name).ok_or("a type without a name")?;
        let dims = (0..job.number()?).map(|_| job.number()).collect::<io::Result<Vec<_>>>()?;
        let buffer = device.import(HostMemory::read_only(job.bytes()?.to_vec()))?;
        inputs.push(BoundTensor::new(*dtype, dims, BufferRange::whole(&buffer)));
    }

    let mut answer = Vec::new();
    let outputs = module.instantiate(InstanceOptions::default()).run("main", inputs, None)?;
    push(&mut answer, outputs.len());
    for output in outputs {
        let name = output.dtype.name();
        push(&mut answer, name.len());
        answer.extend_from_slice(name.as_bytes());
        push(&mut answer, output.dims.len());
        output.dims.iter().for_each(|dim| answer.extend_from_slice(&dim.to_le_bytes()));
        let count = output.dtype.tensor_bytes(&output.dims).and_then(|count| usize::try_from(count).ok());
        let mut bytes = vec![0; count.ok_or("an output of more bytes than can be addressed")?];
        output.buffer.buffer.read(output.buffer.offset_bytes, &mut bytes)?;
        push(&mut answer, bytes.len());
        answer.extend_from_slice(&bytes);
    }
    io::stdout().lock().write_all(&answer)?;
    Ok(())
}

fn push(bytes: &mut Vec<u8>, number: usize) {
    bytes.extend_from_slice(&(number as u64).to_le_bytes());
}

struct Job<'a> {
    rest: &'a [u8],
}

impl<'a> Job<'a> {
    fn take(&mut self, count: u64) -> io::Result<&'a [u8]> {
        let split = usize::try_from(count).ok().and_then(|count| self.rest.split_at_checked(count));
        let (bytes, rest) = split.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        self.rest = rest;
        Ok(bytes)
    }

    fn number(&mut self) -> io::Result<u64> {
        let bytes = self.take(8)?;
        Ok(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn bytes(&mut self) -> io::Result<&'a [u8]> {
        let count = self.number()?;
        self.take(count)
    }
}
