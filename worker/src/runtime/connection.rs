//! Requests and answers on the channel to one process: shared memory is announced before it is referred to, and
//! everything the process says is checked.

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::BenchResult;
use super::ear::Ear;
use super::shared::Shared;
use crate::channel::ChannelError;
use crate::channel::asynchronous::{Receiver, Sender};
use crate::messages::runtime::{
    Answer, BenchRequest, FromRuntime, Moment, Place, ProcessUsage, RuntimeFailure, TensorRef, Timing,
    ToRuntime, WorkProfile,
};
use crate::region::{Pool, RegionError, Regions, SharedBuffer};
use crate::tensor::{Tensor, TensorData};
use ired_module::texts;

/// What can be asked of a process. Kept until it is answered, so that it can be asked again.
#[derive(Debug)]
pub(super) enum Call {
    Infer { entry: String, inputs: Vec<Bound>, profile: bool },
    Bench { entry: String, inputs: Vec<Bound>, request: BenchRequest },
    Peak { entry: String, dims: Vec<Vec<u64>> },
    Usage,
}

/// An input in shared memory.
#[derive(Debug)]
pub(super) struct Bound {
    /// Everything but the place, which the buffer knows.
    pub(super) tensor: TensorRef,
    pub(super) buffer: Arc<SharedBuffer>,
}

/// What a process answered.
#[derive(Debug)]
pub(super) enum Reply {
    Infer { outputs: Vec<Tensor>, timing: Timing, profile: Option<WorkProfile> },
    Bench(BenchResult),
    Peak(u64),
    Usage(ProcessUsage),
}

impl Reply {
    pub(super) fn unexpected(&self) -> RuntimeFailure {
        RuntimeFailure::Protocol { message: "the answer to another kind of request".to_owned() }
    }
}

/// The channel to one process and the memory known on both sides of it.
#[derive(Debug)]
pub(super) struct Connection {
    sender: Sender,
    ear: Ear,
    /// Our regions that the process has been told of.
    announced: Mutex<HashSet<u32>>,
    /// Its regions.
    regions: Mutex<Regions>,
    /// Outputs that were read, of which it is told with the next request.
    read: Mutex<Read>,
}

/// Places of outputs that were read.
#[derive(Debug, Default)]
struct Read {
    places: Vec<Place>,
    bytes: u64,
}

impl Read {
    fn add(&mut self, place: Place) {
        self.places.push(place);
        self.bytes += place.len;
    }

    /// Whether the process should have the memory back at once. Less than that does not make it worth being woken.
    fn is_much(&self) -> bool {
        self.bytes >= 64 << 10 || self.places.len() >= 64
    }
}

impl Connection {
    pub(super) fn new(sender: Sender, receiver: Receiver) -> Arc<Self> {
        let (announced, regions, read) = (Mutex::default(), Mutex::default(), Mutex::default());
        Arc::new(Self { sender, ear: Ear::new(receiver), announced, regions, read })
    }

    /// Hears the process for `shared` until it closes the channel (`None`) or breaks the protocol.
    pub(super) async fn hear(self: &Arc<Self>, shared: &Shared) -> Option<String> {
        let wrong = self.ear.hear(|message, fds: &[OwnedFd]| self.accept(shared, message, fds)).await;
        wrong.map(|wrong| format!("protocol: {wrong}"))
    }

    /// Hears what it has said already.
    pub(super) fn listen(self: &Arc<Self>, shared: &Shared) {
        self.ear.listen(|message, fds: &[OwnedFd]| self.accept(shared, message, fds));
    }

    /// Hears nothing any more: what the process was asked may be asked of another from here on.
    pub(super) fn stop(&self) {
        self.ear.stop();
    }

    fn accept(
        self: &Arc<Self>,
        shared: &Shared,
        message: FromRuntime,
        fds: &[OwnedFd],
    ) -> Result<(), String> {
        match message {
            FromRuntime::Region { region, len } => {
                let [memory] = fds else { return Err(format!("region {region} came without memory")) };
                lock(&self.regions).add(region, len, memory).map_err(|error| error.to_string())
            }
            FromRuntime::Forget { region } => {
                lock(&self.regions).forget(region);
                Ok(())
            }
            FromRuntime::Answer { id, answer } => {
                let outcome = match answer {
                    Ok(answer) => Ok(self.reply(answer)?),
                    Err(failure) => Err(failure),
                };
                shared.answer(id, outcome)
            }
            FromRuntime::Loaded(_) | FromRuntime::Probed(_) => {
                Err("an answer that nobody asked for".to_owned())
            }
        }
    }

    /// Sends a request after announcing the memory it refers to. `attentive`: see [`ToRuntime::Infer`].
    pub(super) fn send_call(
        &self,
        id: u64,
        call: &Call,
        deadline: Option<Instant>,
        attentive: bool,
        pool: &Pool,
    ) -> Result<(), ChannelError> {
        let message = match call {
            Call::Infer { entry, inputs, profile } => {
                let deadline = deadline.map(Moment::from_instant);
                let (entry, inputs) = (entry.clone(), self.announce(inputs, pool)?);
                let (sent, profile) = (Moment::now(), *profile);
                ToRuntime::Infer { id, entry, inputs, sent, deadline, profile, attentive }
            }
            Call::Bench { entry, inputs, request } => {
                let (entry, inputs) = (entry.clone(), self.announce(inputs, pool)?);
                ToRuntime::Bench { id, entry, inputs, request: *request }
            }
            Call::Peak { entry, dims } => ToRuntime::Peak { id, entry: entry.clone(), dims: dims.clone() },
            Call::Usage => ToRuntime::Usage { id },
        };
        let read = std::mem::take(&mut *lock(&self.read));
        if read.places.is_empty() {
            return self.sender.send(&message, Vec::new());
        }
        let messages = [ToRuntime::Release(read.places), message];
        let sent = self.sender.send_all(&messages);
        if let (Err(ChannelError::Full { .. }), [ToRuntime::Release(places), _]) = (&sent, &messages) {
            places.iter().for_each(|&place| lock(&self.read).add(place));
        }
        sent
    }

    /// An output was read.
    fn release(&self, place: Place) {
        let mut read = lock(&self.read);
        read.add(place);
        let much = read.is_much();
        drop(read);
        if much {
            self.send_read();
        }
    }

    /// Tells the process what was read. One that cannot be told is gone or about to be.
    fn send_read(&self) {
        let Read { places, .. } = std::mem::take(&mut *lock(&self.read));
        if !places.is_empty() {
            let _ = self.sender.send(&ToRuntime::Release(places), Vec::new());
        }
    }

    /// Tells the process that an answer is not wanted any more. When it cannot be told, it is about to end anyway.
    pub(super) fn send_cancel(&self, id: u64) {
        let _ = self.sender.send(&ToRuntime::Cancel { id }, Vec::new());
    }

    fn announce(&self, inputs: &[Bound], pool: &Pool) -> Result<Vec<TensorRef>, ChannelError> {
        // Held while sending: another request may refer to a region only after its announcement.
        let mut announced = lock(&self.announced);
        self.forget_retired(&mut announced, pool)?;
        for region in inputs.iter().filter_map(|input| input.buffer.region()) {
            if !announced.contains(&region.number()) {
                let message = ToRuntime::Region { region: region.number(), len: region.len() };
                self.sender.send(&message, vec![region.file()?])?;
                announced.insert(region.number());
            }
        }
        Ok(inputs.iter().map(|input| input.tensor.clone()).collect())
    }

    /// Gives back memory that is kept for inputs to come, on both sides.
    pub(super) fn free_kept(&self, pool: &Pool) {
        pool.free_kept();
        self.send_read();
        // A process that cannot be told is gone, and what it knew with it.
        let _ = self.forget_retired(&mut lock(&self.announced), pool);
    }

    fn forget_retired(&self, announced: &mut HashSet<u32>, pool: &Pool) -> Result<(), ChannelError> {
        for region in pool.take_retired() {
            if announced.remove(&region) {
                self.sender.send(&ToRuntime::Forget { region }, Vec::new())?;
            }
        }
        Ok(())
    }

    /// Turns an answer into a reply whose outputs are read in place.
    fn reply(self: &Arc<Self>, answer: Answer) -> Result<Reply, String> {
        Ok(match answer {
            Answer::Infer { outputs, timing, profile } => {
                Reply::Infer { outputs: self.outputs(outputs)?, timing, profile }
            }
            Answer::Bench { outputs, latencies, cpu, rss_bytes, spans, peak } => {
                let outputs = self.outputs(outputs)?;
                Reply::Bench(BenchResult { latencies, cpu, rss_bytes, outputs, spans, peak })
            }
            Answer::Peak(bytes) => Reply::Peak(bytes),
            Answer::Usage(usage) => Reply::Usage(usage),
        })
    }

    fn outputs(self: &Arc<Self>, outputs: Vec<TensorRef>) -> Result<Vec<Tensor>, String> {
        let regions = lock(&self.regions);
        outputs.into_iter().map(|output| self.output(&regions, output)).collect()
    }

    fn output(self: &Arc<Self>, regions: &Regions, output: TensorRef) -> Result<Tensor, String> {
        let TensorRef { name, dtype, dims, place } = output;
        let view = regions.view(place).map_err(|error: RegionError| error.to_string())?;
        if !texts::is_tensor(dtype, &dims, &view) {
            return Err(format!("output `{name}` is {dtype}{dims:?} and {} bytes", place.len));
        }
        let lease = Lease { connection: Arc::clone(self), place };
        Ok(Tensor { name, dtype, dims, data: TensorData::output(view, lease) })
    }
}

/// Tells the process, when dropped, that an output was read.
#[derive(Debug)]
struct Lease {
    connection: Arc<Connection>,
    place: Place,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.connection.release(self.place);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
