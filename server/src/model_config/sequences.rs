//! What a configuration says of sequences, held against the module's inputs and outputs.

use std::time::Duration;

use ired_module::DType;
use ired_module::signature::{DimSpec, EntryPoint, TensorSpec};
use ired_module::texts::elements;
use ired_proto::inference::model_sequence_batching::control::Kind;
use ired_proto::inference::model_sequence_batching::initial_state::StateData;
use ired_proto::inference::model_sequence_batching::{Control, State, StrategyChoice};
use ired_proto::inference::{ModelConfig, ModelSequenceBatching};

use super::groups::instances;
use super::iterations;
use crate::schedule::{ControlInput, ControlValue, SequencePolicy, StateTensor};

/// How long a sequence may pause where the configuration does not say.
const IDLE: Duration = Duration::from_secs(1);

pub(super) fn policy(
    config: &ModelConfig,
    batching: &ModelSequenceBatching,
    max_batch: u64,
    entry: &EntryPoint,
) -> Result<SequencePolicy, String> {
    let iterations = iterations::read(config, batching, entry)?;
    let mut controls = Vec::new();
    for input in &batching.control_input {
        let spec = find("control input", &input.name, &entry.inputs)?;
        let [control] = &input.control[..] else {
            return Err(format!(
                "control input `{}` has {} controls, not one",
                input.name,
                input.control.len()
            ));
        };
        controls.push(ControlInput { spec: spec.clone(), value: value(&input.name, control, spec)? });
    }
    let states = batching.state.iter().map(|state| {
        let given = iterations.is_some() && config.input.iter().any(|input| input.name == state.input_name);
        let answered = config.output.iter().any(|output| output.name == state.output_name);
        Ok(StateTensor { answered, ..self::state(state, given, max_batch > 0, entry)? })
    });
    let slots = usize::try_from(max_batch.max(1)).unwrap_or(usize::MAX);
    let slots = slots.saturating_mul(instances(config).unwrap_or(1));
    let limit = match &batching.strategy_choice {
        Some(StrategyChoice::Oldest(oldest)) if oldest.max_candidate_sequences > 0 => {
            usize::try_from(oldest.max_candidate_sequences).unwrap_or(slots)
        }
        _ => slots,
    };
    let idle = Duration::from_micros(batching.max_sequence_idle_microseconds);
    Ok(SequencePolicy {
        controls,
        states: states.collect::<Result<_, String>>()?,
        idle: if idle.is_zero() { IDLE } else { idle },
        limit,
        iterations,
    })
}

fn find<'a>(kind: &str, name: &str, specs: &'a [TensorSpec]) -> Result<&'a TensorSpec, String> {
    let spec = specs.iter().find(|spec| spec.name == name);
    spec.ok_or_else(|| format!("the model has no {kind} `{}`", name.escape_debug()))
}

fn value(name: &str, control: &Control, spec: &TensorSpec) -> Result<ControlValue, String> {
    let kind = control.kind();
    if kind == Kind::ControlSequenceCorrid {
        return match spec.dtype {
            DType::I32 | DType::U32 | DType::I64 | DType::U64 | DType::String => {
                Ok(ControlValue::Correlation)
            }
            other => Err(format!("control input `{name}` is {other}, which cannot hold a correlation id")),
        };
    }
    let encode = |found: &[Vec<u8>], dtype: DType| match found {
        [no, yes] if dtype == spec.dtype => Ok((no.clone(), yes.clone())),
        [_, _] => Err(format!("control input `{name}` is {}; its values are {dtype}", spec.dtype)),
        other => Err(format!(
            "control input `{name}` has {} values, not one for false and one for true",
            other.len()
        )),
    };
    let bytes = |values: &[i32]| values.iter().map(|value| value.to_le_bytes().to_vec()).collect::<Vec<_>>();
    let (no, yes) = if !control.int32_false_true.is_empty() {
        encode(&bytes(&control.int32_false_true), DType::I32)
    } else if !control.fp32_false_true.is_empty() {
        let values: Vec<Vec<u8>> = control.fp32_false_true.iter().map(|v| v.to_le_bytes().to_vec()).collect();
        encode(&values, DType::F32)
    } else {
        let values: Vec<Vec<u8>> = control.bool_false_true.iter().map(|&v| vec![u8::from(v)]).collect();
        encode(&values, DType::Bool)
    }?;
    Ok(match kind {
        Kind::ControlSequenceStart => ControlValue::Start { no, yes },
        Kind::ControlSequenceEnd => ControlValue::End { no, yes },
        // Only rows of requests are ever run.
        _ => ControlValue::Ready { yes },
    })
}

/// A state, which the request gives at first or which begins as the configuration says; answers do not have it.
fn state(config: &State, given: bool, batched: bool, entry: &EntryPoint) -> Result<StateTensor, String> {
    let input = find("state input", &config.input_name, &entry.inputs)?;
    let output = find("state output", &config.output_name, &entry.outputs)?;
    let (name, dtype) = (&config.input_name, input.dtype);
    if output.dtype != dtype {
        return Err(format!(
            "state input `{name}` is {dtype}; its output `{}` is {}",
            output.name, output.dtype
        ));
    }
    let state = |row| StateTensor {
        input: name.clone(),
        output: output.name.clone(),
        dtype,
        row,
        batched,
        answered: false,
    };
    if given {
        return Ok(state(None));
    }
    let initial = config.initial_state.first();
    if let Some(StateData::DataFile(file)) = initial.and_then(|initial| initial.state_data.as_ref()) {
        return Err(format!("state input `{name}`: initial states from files (`{file}`) are not supported"));
    }
    let row: Vec<i64> = match initial {
        Some(initial) => initial.dims.clone(),
        None => config.dims.clone(),
    };
    let row = row.iter().map(|&size| u64::try_from(size)).collect::<Result<Vec<_>, _>>();
    let row = row.map_err(|_| {
        format!("state input `{name}` begins with a size that is not known; `initial_state` can say it")
    })?;
    let fits = input.dims.len() == row.len() + usize::from(batched);
    let sizes = input.dims.iter().skip(usize::from(batched));
    let same = |(dim, size): (&DimSpec, &u64)| match dim {
        DimSpec::Static(expected) => expected == size,
        DimSpec::Symbolic { min, max, .. } => min <= size && size <= max,
    };
    // The bytes of one row, which a batch of 1 has.
    let bits = elements(&row).and_then(|elements| elements.checked_mul(dtype.bits()));
    if !fits || !sizes.zip(&row).all(same) || bits.is_none_or(|bits| bits % 8 != 0) {
        return Err(format!("state input `{name}` begins with shape {row:?}, which the model does not take"));
    }
    Ok(state(Some(row)))
}
