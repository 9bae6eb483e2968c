//! A module taking calls: checks inputs, finds or makes the plan for their dimensions, submits it.

use std::fmt::{self, Debug};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use ired_hal::{AllocateError, BufferRange, Inline, Operation, Submission, Timepoint};

use crate::budget::{MemoryBudget, Reservation};
use crate::error::{Fault, InvokeError};
use crate::inputs::{Entry, Symbols};
use crate::invocation::{DONE, Invocation, Lease, State};
use crate::live;
use crate::load::LoadedModule;
use crate::machine::InputShape;
use crate::outputs::{OutputMemory, aliases, allocate_output};
use crate::plan::Plan;
use crate::plan::in_place::Alias;
use crate::pool::Pool;
use crate::strings::CallStrings;
use crate::tensor::BoundTensor;

/// How an instance uses memory.
#[derive(Clone, Debug)]
pub struct InstanceOptions {
    /// What its invocations may hold together; `None` is no bound but the device's.
    pub budget: Option<Arc<MemoryBudget>>,
    /// Transient memory kept between invocations, in bytes; [`Instance::free_pooled`] gives it back.
    pub pool_bytes: u64,
    /// Recorded schedules kept, one for each combination of input dimensions.
    pub cached_plans: usize,
}

impl Default for InstanceOptions {
    fn default() -> Self {
        // A server's usual mix: enough for a large model's activations, and for bucketed batch sizes.
        Self { budget: None, pool_bytes: 256 << 20, cached_plans: 32 }
    }
}

/// How one call runs.
#[derive(Clone)]
pub struct InvokeOptions {
    /// Whether the calling thread may do the work; for callers that wait next.
    pub inline: Inline,
    /// What the work waits for, such as the uploads of its inputs.
    pub waits: Vec<Timepoint>,
    /// A schedule that looks at results gives up there when this has passed.
    pub deadline: Option<Instant>,
    /// Steps that the schedule may take, so that one without an end ends.
    pub fuel: u64,
    /// What the handles in inputs are of, and those in outputs will be; `None` where nobody looks at them.
    pub strings: Option<CallStrings>,
    /// Where outputs go; `None`: into memory of the device that the host can read.
    pub outputs: Option<Arc<dyn OutputMemory>>,
}

impl Default for InvokeOptions {
    fn default() -> Self {
        // Tens of nanoseconds a step, so a second or two; the longest schedules seen take 10^5 steps.
        let fuel = 1 << 26;
        Self {
            inline: Inline::Forbidden,
            waits: Vec::new(),
            deadline: None,
            fuel,
            strings: None,
            outputs: None,
        }
    }
}

impl Debug for InvokeOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InvokeOptions")
            .field("inline", &self.inline)
            .field("deadline", &self.deadline)
            .field("fuel", &self.fuel)
            .finish_non_exhaustive()
    }
}

/// A module taking calls. Clones are the same instance; any number of calls may run at once.
#[derive(Clone)]
pub struct Instance(Arc<Shared>);

/// What an instance and its invocations share.
pub(crate) struct Shared {
    pub(crate) module: Arc<LoadedModule>,
    pub(crate) pool: Pool,
    pub(crate) budget: Option<Arc<MemoryBudget>>,
    cached_plans: usize,
    /// The most recently used last.
    plans: Mutex<Vec<CachedPlan>>,
}

struct CachedPlan {
    entry: usize,
    dims: Vec<Vec<u64>>,
    aliases: Vec<Alias>,
    plan: Arc<Plan>,
}

impl Instance {
    pub(crate) fn new(module: Arc<LoadedModule>, options: InstanceOptions) -> Self {
        Self(Arc::new(Shared {
            module,
            pool: Pool::new(options.pool_bytes),
            budget: options.budget,
            cached_plans: options.cached_plans,
            plans: Mutex::default(),
        }))
    }

    pub fn module(&self) -> &Arc<LoadedModule> {
        &self.0.module
    }

    /// Starts a call of `entry` with `inputs` in signature order, and [`InvokeOptions::default`].
    ///
    /// # Errors
    /// When the inputs do not fit the signature, with the tensor's name and what was expected; when there is no
    /// memory; when the schedule or the device refuses. Nothing runs then. What goes wrong later,
    /// [`Invocation::wait`] tells.
    pub fn invoke(&self, entry: &str, inputs: Vec<BoundTensor>) -> Result<Invocation, InvokeError> {
        self.invoke_with(entry, inputs, &InvokeOptions::default())
    }

    /// Starts a call as `options` say; see [`Instance::invoke`].
    pub fn invoke_with(
        &self,
        entry: &str,
        inputs: Vec<BoundTensor>,
        options: &InvokeOptions,
    ) -> Result<Invocation, InvokeError> {
        if options.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Err(InvokeError::DeadlinePassed);
        }
        let module = &self.0.module;
        let index = module.entry_index(entry)?;
        let entry = module.entry_at(index);
        if !module.is_replayable(entry.function) {
            let (shapes, symbols) = entry.check_dims(inputs.iter().map(|input| input.dims.as_slice()))?;
            entry.check_buffers(&inputs)?;
            return live::start(self.0.clone(), index, inputs, shapes, symbols, options);
        }
        match self.0.plan(index, &inputs, &[], options.fuel) {
            // More than one recording holds, as of a loop with very many rounds.
            Err(InvokeError::Fault { fault: Fault::TooMuchWork { .. }, .. }) => {
                let (shapes, symbols) = entry.check_dims(inputs.iter().map(|i| i.dims.as_slice()))?;
                live::start(self.0.clone(), index, inputs, shapes, symbols, options)
            }
            plan => self.0.replay(index, plan?, &inputs, options),
        }
    }

    /// Runs a call to its end on this thread and the device's.
    ///
    /// # Errors
    /// As [`Instance::invoke`] and [`Invocation::wait`]. A call that misses `deadline` is cancelled.
    pub fn run(
        &self,
        entry: &str,
        inputs: Vec<BoundTensor>,
        deadline: Option<Instant>,
    ) -> Result<Vec<BoundTensor>, InvokeError> {
        let options = InvokeOptions { inline: Inline::Allowed, deadline, ..InvokeOptions::default() };
        let invocation = self.invoke_with(entry, inputs, &options)?;
        let outputs = invocation.take_outputs(deadline);
        if matches!(outputs, Err(InvokeError::DeadlinePassed)) {
            invocation.cancel();
        }
        outputs
    }

    /// Puts named inputs into the order that [`Instance::invoke`] takes.
    ///
    /// # Errors
    /// When a name is unknown, missing, or given twice.
    pub fn order_inputs(
        &self,
        entry: &str,
        named: Vec<(String, BoundTensor)>,
    ) -> Result<Vec<BoundTensor>, InvokeError> {
        self.0.module.entry(entry)?.order(named)
    }

    /// Strings for one call, over those of the module; what they take counts towards the budget as long as they live.
    pub fn call_strings(&self) -> CallStrings {
        self.0.call_strings()
    }

    /// Bytes that a call takes of the budget: its outputs, and what there is only while it runs. Nothing runs to know it.
    ///
    /// `dims` are those of the inputs, in signature order. Sizes that data decides count as little as they can be.
    ///
    /// # Errors
    /// When there is no such entry point, it does not take such inputs, or the schedule refuses them.
    pub fn call_bytes(&self, entry: &str, dims: &[Vec<u64>]) -> Result<u64, InvokeError> {
        let module = &self.0.module;
        let index = module.entry_index(entry)?;
        let entry = module.entry_at(index);
        let given = || dims.iter().map(Vec::as_slice);
        let (shapes, symbols) = entry.check_dims(given())?;
        if module.is_replayable(entry.function) {
            // What is recorded to know it, the call that follows needs anyway.
            let plan = match self.0.find_plan(index, given(), &[]) {
                Some(plan) => Ok(plan),
                None => self.0.make_plan(index, shapes.clone(), &symbols, &[], InvokeOptions::default().fuel),
            };
            match plan {
                Ok(plan) => return Ok(plan.total_bytes),
                Err(InvokeError::Allocate(AllocateError::OutOfMemory { bytes })) => return Ok(bytes),
                // Such a call does without a plan.
                Err(InvokeError::Fault { fault: Fault::TooMuchWork { .. }, .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(module.peak_of(entry, &shapes)?.saturating_add(entry.least_output_bytes(&symbols)))
    }

    /// Transient memory kept for the next invocation, in bytes.
    pub fn pooled_bytes(&self) -> u64 {
        self.0.pool.kept_bytes()
    }

    /// Gives back what [`Instance::pooled_bytes`] counts, and what the device keeps for others.
    pub fn free_pooled(&self) {
        self.0.pool.free_kept();
        self.0.module.device().free_kept();
    }
}

impl Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instance").field("module", &self.0.module).finish_non_exhaustive()
    }
}

impl Shared {
    /// The plan for these inputs, made unless it is there, where `aliases` hold.
    fn plan(
        &self,
        index: usize,
        inputs: &[BoundTensor],
        aliases: &[Alias],
        fuel: u64,
    ) -> Result<Arc<Plan>, InvokeError> {
        let entry = self.module.entry_at(index);
        let dims = || inputs.iter().map(|input| input.dims.as_slice());
        if let Some(plan) = self.find_plan(index, dims(), aliases) {
            entry.check_buffers(inputs)?;
            return Ok(plan);
        }
        let (shapes, symbols) = entry.check_dims(dims())?;
        entry.check_buffers(inputs)?;
        self.make_plan(index, shapes, &symbols, aliases, fuel)
    }

    fn find_plan<'d>(
        &self,
        entry: usize,
        dims: impl ExactSizeIterator<Item = &'d [u64]> + Clone,
        aliases: &[Alias],
    ) -> Option<Arc<Plan>> {
        let mut plans = self.lock();
        let matches = |cached: &CachedPlan| {
            cached.entry == entry
                && cached.aliases == aliases
                && cached.dims.len() == dims.len()
                && cached.dims.iter().zip(dims.clone()).all(|(cached, dims)| cached == dims)
        };
        let at = plans.iter().rposition(matches)?;
        let plan = plans[at].plan.clone();
        if at + 1 < plans.len() {
            plans[at..].rotate_left(1);
        }
        Some(plan)
    }

    fn make_plan(
        &self,
        index: usize,
        shapes: Vec<InputShape>,
        symbols: &Symbols,
        aliases: &[Alias],
        fuel: u64,
    ) -> Result<Arc<Plan>, InvokeError> {
        let entry = self.module.entry_at(index);
        let plan = Arc::new(Plan::build(&self.module, entry, &shapes, symbols, aliases, fuel)?);
        let declared = self.module.peak_of(entry, &shapes)?;
        if plan.arena_bytes > declared && aliases.is_empty() {
            // Whoever admitted this call counted on less; the budget still holds.
            tracing::warn!(
                entry = entry.name,
                found = plan.arena_bytes,
                declared,
                "peak memory is above what the module says"
            );
        }
        let dims: Vec<_> = shapes.into_iter().map(|shape| shape.dims).collect();
        let mut evicted = None;
        {
            let mut plans = self.lock();
            // Another call may have made the same plan meanwhile; one of them is enough.
            let same = |cached: &CachedPlan| {
                (cached.entry, &*cached.dims, &*cached.aliases) == (index, &*dims, aliases)
            };
            if plans.iter().any(same) {
                return Ok(plan);
            }
            if plans.len() >= self.cached_plans.max(1) {
                evicted = Some(plans.remove(0));
            }
            plans.push(CachedPlan { entry: index, dims, aliases: aliases.to_vec(), plan: plan.clone() });
        }
        drop(evicted);
        Ok(plan)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<CachedPlan>> {
        // Nothing panics while holding it.
        self.plans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn call_strings(&self) -> CallStrings {
        let memory_bytes = self.module.device().info().memory_bytes;
        CallStrings::over(self.module.strings().clone(), memory_bytes, self.budget.as_ref())
    }

    /// Asks the budget, and the device's size, for `bytes`.
    pub(crate) fn reserve(&self, bytes: u64) -> Result<Option<Reservation>, InvokeError> {
        if bytes > self.module.device().info().memory_bytes {
            return Err(InvokeError::Allocate(AllocateError::OutOfMemory { bytes }));
        }
        let Some(budget) = &self.budget else { return Ok(None) };
        budget.try_reserve(bytes).map(Some).ok_or_else(|| InvokeError::OverBudget {
            needed_bytes: bytes,
            available_bytes: budget.limit_bytes().saturating_sub(budget.used_bytes()),
            limit_bytes: budget.limit_bytes(),
        })
    }

    /// Submits a plan with the buffers of this call.
    fn replay(
        self: &Arc<Self>,
        index: usize,
        mut plan: Arc<Plan>,
        inputs: &[BoundTensor],
        options: &InvokeOptions,
    ) -> Result<Invocation, InvokeError> {
        let (device, entry) = (self.module.device(), self.module.entry_at(index));
        let mut reservation = self.reserve(plan.total_bytes)?;
        let (outputs, written) = self.outputs(entry, &plan, options)?;
        // Memory that nobody gave is nobody's yet.
        if options.outputs.is_some() {
            let bytes = plan.outputs.iter().map(|planned| planned.buffer_bytes);
            let aliases = aliases(entry, inputs, &outputs, bytes)?;
            if !aliases.is_empty() {
                plan = self.plan(index, inputs, &aliases, options.fuel)?;
                drop(reservation);
                reservation = self.reserve(plan.total_bytes)?;
            }
        }
        let mut table = Vec::with_capacity(inputs.len() + plan.outputs.len() + 1);
        for (input, &bytes) in inputs.iter().zip(&plan.input_bytes) {
            table.push(BufferRange { len_bytes: bytes, ..input.buffer.clone() });
        }
        table.extend(written);
        let mut leases = Vec::new();
        let uses_arena = plan.commands.as_ref().is_some_and(|commands| commands.slots().len() > table.len());
        if uses_arena || reservation.is_some() {
            leases.push(Lease { buffer: None, _reservation: reservation });
        }
        if uses_arena {
            let arena = self.pool.take(&**device, plan.arena_bytes)?;
            table.push(BufferRange::new(&arena, 0, plan.arena_bytes));
            leases[0].buffer = Some(arena);
        }
        let state = State::new(self.clone(), device.create_semaphore(0));
        state.promise(outputs, leases);
        let invocation = Invocation::new(state);
        let done = [invocation.timepoint()];
        let operation = match &plan.commands {
            Some(commands) => {
                table.truncate(commands.slots().len());
                Operation::Execute { commands, bindings: &table }
            }
            None => Operation::Barrier,
        };
        let submission =
            Submission::new(operation).waits(&options.waits).signals(&done).inline(options.inline);
        device.submit(submission).map_err(|error| InvokeError::Submit(Arc::new(error)))?;
        debug_assert_eq!(done[0].value, DONE);
        Ok(invocation)
    }

    /// Memory for the outputs: the tensors, and what may be written of each.
    fn outputs(
        &self,
        entry: &Entry,
        plan: &Plan,
        options: &InvokeOptions,
    ) -> Result<(Vec<BoundTensor>, Vec<BufferRange>), InvokeError> {
        let (device, memory) = (self.module.device(), options.outputs.as_ref());
        let (mut outputs, mut written) =
            (Vec::with_capacity(plan.outputs.len()), Vec::with_capacity(plan.outputs.len()));
        for (index, planned) in plan.outputs.iter().enumerate() {
            let range = allocate_output(&**device, entry, index, planned.buffer_bytes, memory)?;
            outputs.push(BoundTensor {
                dtype: entry.outputs[index].dtype,
                dims: planned.dims.clone(),
                buffer: BufferRange { len_bytes: planned.tensor_bytes, ..range.clone() },
            });
            written.push(range);
        }
        Ok((outputs, written))
    }
}
