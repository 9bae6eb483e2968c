//! How the tensors of a request come and go, where that is not in the request and its answer: in shared memory,
//! or as classes. The same for both protocols.

use std::sync::Arc;
use std::time::Instant;

use ired_module::signature::DimSpec;
use ired_worker::Tensor;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::app::App;
use crate::budget::Reservation;
use crate::course::Course;
use crate::error::Error;
use crate::infer::{Answer, Call, Parameters, Part, Parts, parameters};
use crate::registry::Served;
use crate::services::aside;
use crate::shared_memory::{Place, Regions};
use crate::tensors::classes::classify;
use crate::trace::Origin;

/// The parameter of a tensor that lies in shared memory.
pub(super) const REGION: &str = "shared_memory_region";
/// Where in its region, and how large its place there is.
pub(super) const OFFSET: &str = "shared_memory_offset";
pub(super) const BYTE_SIZE: &str = "shared_memory_byte_size";

/// More bytes than take about a millisecond to copy.
const COPIED_BYTES: u64 = 4 << 20;

/// A decoded request: the call, and how its tensors travel.
pub(super) struct Transfer {
    pub call: Call,
    /// Inputs, by position, whose data lies in shared memory; the call has them without it.
    pub fetches: Vec<(usize, Fetch)>,
    /// What is asked for; its names are the call's once it runs.
    pub outputs: Vec<Output>,
}

/// An input's data in shared memory.
pub(super) struct Fetch(Place);

/// An output that is asked for.
#[derive(Clone, Debug)]
pub(super) struct Output {
    name: String,
    /// Of REST: as binary data or not, where it says so.
    binary: Option<bool>,
    delivery: Delivery,
}

#[derive(Clone, Debug)]
enum Delivery {
    /// In the answer.
    Answer,
    /// In the answer, as so many classes.
    Classes(u64),
    Region(String, Place),
}

/// An output as the answer has it.
pub(super) struct Delivered {
    pub tensor: Tensor,
    pub binary: Option<bool>,
    /// Where its data is, if not in the answer.
    pub written: Option<Written>,
}

/// A tensor that was written to shared memory.
pub(super) struct Written {
    pub region: String,
    pub offset: u64,
    pub byte_size: u64,
}

/// What an answer is made of; the request counts as inside until it is dropped.
pub(super) struct Reply {
    /// Its outputs are those below.
    pub answer: Answer,
    pub outputs: Vec<Delivered>,
    _inside: Option<Reservation>,
}

/// Where the data of an input is that `parameters` puts into shared memory; `None` for one that comes with the
/// request.
pub(super) fn fetch(regions: &Regions, name: &str, parameters: &Parameters) -> Result<Option<Fetch>, Error> {
    let place = place(regions, "input", name, parameters)?;
    Ok(place.map(|(_, place)| Fetch(place)))
}

/// An output by what its `parameters` ask for.
pub(super) fn output(regions: &Regions, name: String, parameters: &Parameters) -> Result<Output, Error> {
    let of_output = |error| Error::invalid(format!("output `{name}`: {error}"));
    let classes = parameters::unsigned(parameters, "classification").map_err(of_output)?.filter(|&k| k > 0);
    let binary = parameters::boolean(parameters, "binary_data").map_err(of_output)?;
    let delivery = match (classes, place(regions, "output", &name, parameters)?) {
        (None, None) => Delivery::Answer,
        (Some(count), None) => Delivery::Classes(count),
        (None, Some((region, place))) => Delivery::Region(region, place),
        (Some(_), Some(_)) => {
            return Err(Error::invalid(format!("output `{name}`: classes are not written to shared memory")));
        }
    };
    Ok(Output { name, binary, delivery })
}

fn place(
    regions: &Regions,
    kind: &str,
    name: &str,
    parameters: &Parameters,
) -> Result<Option<(String, Place)>, Error> {
    let of_tensor = |error| Error::invalid(format!("{kind} `{name}`: {error}"));
    let Some(region) = parameters::text(parameters, REGION).map_err(of_tensor)? else {
        return Ok(None);
    };
    let tensor = format!("{kind} `{name}`");
    let number = |name| parameters::unsigned(parameters, name).map_err(of_tensor);
    let byte_size = number(BYTE_SIZE)?
        .ok_or_else(|| Error::invalid(format!("{tensor}: parameter `{BYTE_SIZE}` is missing")))?;
    let offset = number(OFFSET)?.unwrap_or(0);
    Ok(Some((region.to_owned(), regions.place(&tensor, region, offset, byte_size)?)))
}

impl Transfer {
    /// Has the call run in a task of its own until it is over.
    ///
    /// # Errors
    /// [`Error::Invalid`] for outputs in shared memory, where each answer would overwrite the one before.
    pub(super) fn generate(self, app: Arc<App>, origin: Origin) -> Result<Generation, Error> {
        let Self { mut call, fetches, mut outputs } = self;
        if let Some(output) = outputs.iter().find(|output| matches!(output.delivery, Delivery::Region(..))) {
            return Err(Error::invalid(format!(
                "output `{}`: the responses of a decoupled model are not written to shared memory",
                output.name
            )));
        }
        call.outputs = outputs.iter_mut().map(|output| std::mem::take(&mut output.name)).collect();
        let (parts, receiver) = Parts::new();
        let work = tokio::spawn(async move {
            let mut watch = app.traces.watch(origin, &mut call);
            let course = &mut watch.course;
            let result = match fetch_all(&app, &mut call, fetches, course).await {
                Ok(_inside) => app.inference.generate(call, course, parts).await,
                Err(error) => Err(error),
            };
            watch.end(result.as_ref().err());
            result
        });
        Ok(Generation { parts: receiver, work: Some(AbortOnDropHandle::new(work)), outputs })
    }

    /// Fetches what lies in shared memory, runs the call, and delivers its outputs.
    pub(super) async fn run(self, app: &App, course: &mut Course) -> Result<Reply, Error> {
        let Self { mut call, fetches, mut outputs } = self;
        call.outputs = outputs.iter_mut().map(|output| std::mem::take(&mut output.name)).collect();
        let inside = fetch_all(app, &mut call, fetches, course).await?;
        let mut answer = app.inference.infer(call, course).await?;
        let tensors = std::mem::take(&mut answer.outputs);
        let outputs = deliver(&answer.served, tensors, outputs).await?;
        Ok(Reply { answer, outputs, _inside: Some(inside) })
    }
}

/// The answers of a request that is run again and again. Dropping it cancels the request.
pub(super) struct Generation {
    parts: mpsc::Receiver<Part>,
    /// Until it has said how it ended.
    work: Option<AbortOnDropHandle<Result<(), Error>>>,
    outputs: Vec<Output>,
}

impl Generation {
    /// The next answer, and whether it is the last; `None` after that. After an error there is nothing to ask for.
    pub(super) async fn next(&mut self) -> Option<Result<(Reply, bool), Error>> {
        if let Some(Part { mut answer, is_last }) = self.parts.recv().await {
            if is_last {
                // So that it is counted before its client knows.
                self.ended().await;
            }
            let tensors = std::mem::take(&mut answer.outputs);
            let delivered = deliver(&answer.served, tensors, self.outputs.clone()).await;
            return Some(delivered.map(|outputs| (Reply { answer, outputs, _inside: None }, is_last)));
        }
        self.ended().await.map(Err)
    }

    /// Why it ended before its last answer, if it did; told once.
    async fn ended(&mut self) -> Option<Error> {
        // It breaks off only with the daemon.
        self.work.take()?.await.unwrap_or(Err(Error::Stopping)).err()
    }
}

async fn fetch_all(
    app: &App,
    call: &mut Call,
    fetches: Vec<(usize, Fetch)>,
    course: &mut Course,
) -> Result<Reservation, Error> {
    let mut inside = app.inference.budget().empty(call.tenant.clone());
    if fetches.is_empty() {
        return Ok(inside);
    }
    let bytes: u64 = fetches.iter().map(|(_, fetch)| fetch.0.byte_size).fold(0, u64::saturating_add);
    let limit = app.settings.message_bytes as u64;
    if bytes > limit {
        return Err(Error::TooLarge { what: "the request's shared memory".to_owned(), found: bytes, limit });
    }
    inside.grow(bytes)?;
    let read = move || {
        let read = |(at, fetch): (usize, Fetch)| fetch.0.read().map(|bytes| (at, bytes));
        fetches.into_iter().map(read).collect::<Result<Vec<_>, _>>()
    };
    let unreadable = |error| Error::invalid(format!("cannot read the inputs' shared memory: {error}"));
    for (at, bytes) in aside(bytes, COPIED_BYTES, read).await?.map_err(unreadable)? {
        if let Some(input) = call.inputs.get_mut(at) {
            input.data = bytes.into();
        }
    }
    course.fetched = Some(Instant::now());
    Ok(inside)
}

async fn deliver(
    served: &Served,
    tensors: Vec<Tensor>,
    outputs: Vec<Output>,
) -> Result<Vec<Delivered>, Error> {
    let mut delivered = Vec::with_capacity(tensors.len());
    let mut wanted = outputs.into_iter();
    for tensor in tensors {
        // The answer has what was asked for, in that order; all outputs where nothing was.
        let Some(Output { binary, delivery, .. }) = wanted.next() else {
            delivered.push(Delivered { tensor, binary: None, written: None });
            continue;
        };
        delivered.push(match delivery {
            Delivery::Answer => Delivered { tensor, binary, written: None },
            Delivery::Classes(count) => {
                let names = served.class_names.of(&tensor.name);
                let tensor = classify(&tensor, count, has_rows(served, &tensor.name), names)?;
                Delivered { tensor, binary, written: None }
            }
            Delivery::Region(region, place) => {
                let (offset, byte_size) = (place.offset, tensor.data.len() as u64);
                if byte_size > place.byte_size {
                    return Err(Error::invalid(format!(
                        "output `{}` has {byte_size} bytes, its place in shared memory {}",
                        tensor.name, place.byte_size
                    )));
                }
                let name = tensor.name.clone();
                let written =
                    aside(byte_size, COPIED_BYTES, move || place.write(&tensor.data).map(|()| tensor))
                        .await?;
                let tensor = written.map_err(|error| {
                    Error::invalid(format!("output `{name}` cannot be written to shared memory: {error}"))
                })?;
                Delivered { tensor, binary, written: Some(Written { region, offset, byte_size }) }
            }
        });
    }
    Ok(delivered)
}

/// Whether an output has a first dimension that each request chooses: then its elements are rows of scores.
fn has_rows(served: &Served, output: &str) -> bool {
    let spec = served.entry().outputs.iter().find(|spec| spec.name == output);
    spec.is_some_and(|spec| spec.dims.len() > 1 && matches!(spec.dims[0], DimSpec::Symbolic { .. }))
}
