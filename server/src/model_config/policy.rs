//! How a configuration has requests queued and joined.

use std::time::Duration;

use ired_module::signature::{DimSpec, EntryPoint, Rows, TensorSpec};
use ired_proto::inference::model_config::SchedulingChoice;
use ired_proto::inference::model_queue_policy::TimeoutAction;
use ired_proto::inference::model_sequence_batching::StrategyChoice;
use ired_proto::inference::{ModelConfig, ModelDynamicBatching, ModelQueuePolicy};

use super::groups::instances;
use super::{flag, parameter};
use crate::infer::join;
use crate::schedule::{AfterTimeout, Batching, Policy, QueuePolicy, Sizes};

/// What requests that were joined unasked may compute.
const UNASKED_COMPUTE: Duration = Duration::from_millis(2);

/// `unasked_rows`: what requests may be joined to where the configuration says nothing of it.
pub(super) fn policy(
    config: &ModelConfig,
    max_batch: u64,
    unasked_rows: u64,
    entry: &EntryPoint,
) -> Result<Policy, String> {
    let mut policy = Policy {
        instances: instances(config),
        share: positive(config, "ired.share")?,
        per_second: positive(config, "ired.requests_per_second")?,
        ..Policy::default()
    };
    let says_independent = flag(config, "ired.rows_independent")?;
    match &config.scheduling_choice {
        Some(SchedulingChoice::DynamicBatching(batching)) => {
            if max_batch == 0 {
                return Err("`dynamic_batching` needs a `max_batch_size` of 1 or more".to_owned());
            }
            let rows = join::max_rows(entry, says_independent);
            let rows = rows.map_err(|why| format!("`dynamic_batching` is not possible: {why}"))?;
            dynamic(&mut policy, batching, rows.min(max_batch), entry)?
        }
        Some(SchedulingChoice::SequenceBatching(sequences)) if max_batch > 1 => {
            // Sequences run one by one where their rows cannot be joined.
            let rows = join::max_rows(entry, says_independent).ok().map(|rows| rows.min(max_batch));
            let (preferred, delay): (&[i32], u64) = match &sequences.strategy_choice {
                Some(StrategyChoice::Oldest(o)) => (&o.preferred_batch_size, o.max_queue_delay_microseconds),
                Some(StrategyChoice::Direct(direct)) => (&[], direct.max_queue_delay_microseconds),
                None => (&[], 0),
            };
            policy.batching = rows.map(|rows| batching(rows, preferred, delay, entry)).transpose()?;
        }
        None if max_batch == 0 => {
            let rows = join::max_rows(entry, says_independent).unwrap_or(1).min(unasked_rows);
            let max_compute = Some(UNASKED_COMPUTE);
            let sizes = sizes(entry, rows);
            policy.batching =
                (rows > 1).then(|| Batching { max_rows: rows, sizes, max_compute, ..Batching::default() });
        }
        _ => {}
    }
    Ok(policy)
}

/// Whether the first dimension of every tensor is one that a request chooses, the same for all.
pub(super) fn check_rows(entry: &EntryPoint) -> Result<(), String> {
    let rows = |spec: &TensorSpec| match spec.dims.first() {
        Some(DimSpec::Symbolic { name, .. }) => Some(name.clone()),
        _ => None,
    };
    let first = entry.inputs.first().and_then(rows);
    match join::specs(entry).find(|(_, spec)| rows(spec).is_none() || rows(spec) != first) {
        None => Ok(()),
        Some((kind, spec)) => Err(format!(
            "`max_batch_size` needs a first dimension that every request chooses, the same for all tensors; {kind} `{}` \
             has none",
            spec.name
        )),
    }
}

fn dynamic(
    policy: &mut Policy,
    config: &ModelDynamicBatching,
    max_rows: u64,
    entry: &EntryPoint,
) -> Result<(), String> {
    let (preferred, delay) = (&config.preferred_batch_size, config.max_queue_delay_microseconds);
    policy.batching = Some(batching(max_rows, preferred, delay, entry)?);
    let level = |level: u64, field: &str| {
        let found = u32::try_from(level).ok().filter(|_| level <= config.priority_levels);
        found.ok_or_else(|| format!("`{field}` is {level}; there are {} levels", config.priority_levels))
    };
    policy.levels = level(config.priority_levels, "priority_levels")?;
    policy.default_level = level(config.default_priority_level, "default_priority_level")?;
    if policy.levels > 0 && policy.default_level == 0 {
        return Err("`priority_levels` needs a `default_priority_level`".to_owned());
    }
    policy.queue = config.default_queue_policy.as_ref().map(queue).unwrap_or_default();
    for (&number, config) in &config.priority_queue_policy {
        policy.queues.insert(level(number, "priority_queue_policy")?, queue(config));
    }
    Ok(())
}

fn batching(max_rows: u64, preferred: &[i32], delay_us: u64, entry: &EntryPoint) -> Result<Batching, String> {
    let size = |&rows: &i32| {
        let found = u64::try_from(rows).ok().filter(|&rows| rows > 0 && rows <= max_rows);
        found.ok_or_else(|| format!("`preferred_batch_size` is {rows}; batches have 1 to {max_rows} rows"))
    };
    let mut preferred_rows = preferred.iter().map(size).collect::<Result<Vec<_>, _>>()?;
    preferred_rows.sort_unstable();
    let (sizes, max_delay) = (sizes(entry, max_rows), Duration::from_micros(delay_us));
    Ok(Batching { max_rows, preferred_rows, sizes, max_delay, max_compute: None })
}

fn sizes(entry: &EntryPoint, max_rows: u64) -> Sizes {
    match &entry.rows {
        Rows::Independent { costs, .. } => Sizes::new(costs, max_rows),
        Rows::Dependent { .. } => Sizes::default(),
    }
}

fn queue(config: &ModelQueuePolicy) -> QueuePolicy {
    let timeout = Duration::from_micros(config.default_timeout_microseconds);
    QueuePolicy {
        timeout: Some(timeout).filter(|timeout| !timeout.is_zero()),
        allow_override: config.allow_timeout_override,
        after_timeout: match config.timeout_action() {
            TimeoutAction::Reject => AfterTimeout::Refuse,
            TimeoutAction::Delay => AfterTimeout::GoLast,
        },
        max_waiting: usize::try_from(config.max_queue_size).ok().filter(|&size| size > 0),
    }
}

fn positive(config: &ModelConfig, name: &str) -> Result<Option<f64>, String> {
    let Some(text) = parameter(config, name) else { return Ok(None) };
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite() && *number > 0.0);
    number.map(Some).ok_or_else(|| format!("`{name}` is `{}`, not a number above 0", text.escape_debug()))
}
