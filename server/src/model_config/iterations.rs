//! What a configuration says of requests that are run again and again.

use ired_module::DType;
use ired_module::signature::EntryPoint;
use ired_proto::inference::{ModelConfig, ModelSequenceBatching};

use super::parameter;
use crate::schedule::{Iterations, LastOutput};

/// The parameter that names the output which says of a run that it is the last one.
const LAST: &str = "ired.last";
/// The parameter that bounds the responses to a request.
const MAX: &str = "ired.max_responses";

/// Whether something is said of how requests end that are run again and again.
pub(super) fn says_end(config: &ModelConfig) -> bool {
    [LAST, MAX].into_iter().any(|name| parameter(config, name).is_some())
}

/// `None` where a request is run once.
pub(super) fn read(
    config: &ModelConfig,
    batching: &ModelSequenceBatching,
    entry: &EntryPoint,
) -> Result<Option<Iterations>, String> {
    let decoupled = config.model_transaction_policy.is_some_and(|policy| policy.decoupled);
    if !batching.iterative_sequence {
        return Ok(None);
    }
    if !decoupled {
        return Err("`iterative_sequence` needs `model_transaction_policy { decoupled: true }`, as each run of a request \
                    is a response"
            .to_owned());
    }
    let last = parameter(config, LAST).map(|name| last(config, name, entry)).transpose()?;
    let max = parameter(config, MAX).map(max).transpose()?;
    if last.is_none() && max.is_none() {
        return Err(format!(
            "`iterative_sequence` needs parameter `{LAST}`, the name of an output that is true in a request's last run, \
             or `{MAX}`, or both; else no request would end"
        ));
    }
    Ok(Some(Iterations { last, max }))
}

fn last(config: &ModelConfig, name: &str, entry: &EntryPoint) -> Result<LastOutput, String> {
    let output = entry.outputs.iter().find(|spec| spec.name == name);
    let output = output.ok_or_else(|| {
        format!("parameter `{LAST}` is `{}`; the model has no such output", name.escape_debug())
    })?;
    match output.dtype {
        DType::Bool | DType::I8 | DType::I16 | DType::I32 | DType::I64 => {}
        DType::U8 | DType::U16 | DType::U32 | DType::U64 => {}
        other => {
            return Err(format!(
                "parameter `{LAST}`: output `{name}` is {other}, neither a bool nor a whole number"
            ));
        }
    }
    let answered = config.output.iter().any(|output| output.name == name);
    Ok(LastOutput { name: name.to_owned(), answered })
}

fn max(text: &str) -> Result<u64, String> {
    let number = text.parse().ok().filter(|&number| number > 0);
    number.ok_or_else(|| {
        format!("parameter `{MAX}` is `{}`, not a whole number from 1 on", text.escape_debug())
    })
}
