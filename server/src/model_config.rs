//! A model's configuration as its owner writes it: `config.pbtxt` beside the model, or a load request's JSON.
//!
//! What it says of inputs and outputs is held against the module; what it says of queues, batches, sequences and
//! instances is what the scheduler goes by. What this server has no use for is told in the log; what would change
//! answers if it were passed over is an error.

mod groups;
mod iterations;
mod policy;
mod sequences;
mod warm_up;

use std::sync::LazyLock;

use ired_module::signature::{EntryPoint, TensorSpec};
use ired_proto::FILE_DESCRIPTOR_SET;
use ired_proto::inference::model_config::SchedulingChoice;
use ired_proto::inference::model_instance_group::Kind;
use ired_proto::inference::model_sequence_batching::StrategyChoice;
use ired_proto::inference::{DataType, ModelConfig};
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, SerializeOptions};
use serde_json::Value;

use crate::describe::data_type;
use crate::error::Error;
use crate::registry::labels;
use crate::schedule::{Policy, SequencePolicy};
use crate::trial::Tolerance;

pub use groups::instance_groups;
pub use warm_up::{Content, Sample, Share, samples};

/// The largest configuration, in bytes.
pub const CONFIG_BYTES: u64 = 1 << 20;

static DESCRIPTOR: LazyLock<Option<MessageDescriptor>> = LazyLock::new(|| {
    let pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET).ok()?;
    pool.get_message_by_name("inference.ModelConfig")
});

/// What a configuration comes to for one module.
#[derive(Clone, Debug, Default)]
pub struct Scheduling {
    pub policy: Policy,
    pub sequences: Option<SequencePolicy>,
    /// Rows that one request may have; `None`: as many as the module takes.
    pub max_rows: Option<u64>,
    /// It is never unloaded to make room.
    pub pinned: bool,
}

/// Reads protobuf's text format.
pub fn from_text(text: &str) -> Result<ModelConfig, Error> {
    let message = DynamicMessage::parse_text_format(descriptor()?, &with_colons(text));
    typed(&message.map_err(|error| not_a_configuration(&error))?)
}

/// Puts the colon between a field and its list that may be left out where the list is of messages, and that our reader
/// wants all the same.
fn with_colons(text: &str) -> String {
    let mut written = String::with_capacity(text.len());
    let mut chars = text.chars();
    let mut after_name = false;
    while let Some(c) = chars.next() {
        if c == '[' && after_name {
            written.push(':');
        }
        written.push(c);
        match c {
            '#' => written.extend(chars.by_ref().take_while(|&c| c != '\n').chain(['\n'])),
            '"' | '\'' => {
                while let Some(inner) = chars.next() {
                    written.push(inner);
                    match inner {
                        '\\' => written.extend(chars.next()),
                        _ if inner == c => break,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
        let is_space = c.is_ascii_whitespace() || c == '#';
        after_name = c.is_ascii_alphanumeric() || c == '_' || is_space && after_name;
    }
    written
}

/// Reads protobuf's JSON.
///
/// # Errors
/// [`Error::TooLarge`] beyond [`CONFIG_BYTES`]: that of a load request is kept. [`Error::Invalid`] for what is none.
pub fn from_json(text: &str) -> Result<ModelConfig, Error> {
    let found = text.len() as u64;
    if found > CONFIG_BYTES {
        let what = "the model's configuration".to_owned();
        return Err(Error::TooLarge { what, found, limit: CONFIG_BYTES });
    }
    let mut reader = serde_json::Deserializer::from_str(text);
    let message = DynamicMessage::deserialize(descriptor()?, &mut reader).and_then(|message| {
        reader.end()?;
        Ok(message)
    });
    typed(&message.map_err(|error| not_a_configuration(&error))?)
}

fn descriptor() -> Result<MessageDescriptor, Error> {
    // It was built with this program.
    DESCRIPTOR.clone().ok_or_else(|| Error::Unsupported("this build cannot read configurations".to_owned()))
}

/// The configuration as REST has it: the protocol's names of fields, and numbers that are numbers.
pub fn to_json(config: &ModelConfig) -> Result<Value, Error> {
    let mut message = DynamicMessage::new(descriptor()?);
    message.transcode_from(config).map_err(|error| not_a_configuration(&error))?;
    let options = SerializeOptions::new()
        .stringify_64_bit_integers(false)
        .use_proto_field_name(true)
        .skip_default_fields(false);
    let json = message.serialize_with_options(serde_json::value::Serializer, &options);
    json.map_err(|error| not_a_configuration(&error))
}

fn typed(message: &DynamicMessage) -> Result<ModelConfig, Error> {
    message.transcode_to().map_err(|error| not_a_configuration(&error))
}

fn not_a_configuration(error: &dyn std::error::Error) -> Error {
    Error::invalid(format!("the model's configuration cannot be read: {error}"))
}

/// Holds a configuration against a module and says what follows from it. `unasked_rows` are those that requests may be joined
/// to where it says nothing of that.
///
/// # Errors
/// [`Error::Invalid`] for what contradicts the module, [`Error::Unsupported`] for what this server cannot do.
pub fn scheduling(
    name: &str,
    config: &ModelConfig,
    unasked_rows: u64,
    entry: &EntryPoint,
) -> Result<Scheduling, Error> {
    let wrong = |what: String| Error::invalid(format!("the configuration of `{name}`: {what}"));
    if !config.name.is_empty() && config.name != name {
        return Err(wrong(format!("`name` is `{}`", config.name.escape_debug())));
    }
    refuse(name, config)?;
    for field in passed_over(config) {
        tracing::warn!(model = name, field, "this field of the model's configuration is passed over");
    }
    for (kind, found, specs) in [
        ("input", named(&config.input, |i| (&i.name, i.data_type)), &entry.inputs),
        ("output", named(&config.output, |o| (&o.name, o.data_type)), &entry.outputs),
    ] {
        for (tensor, data_type) in found {
            check_tensor(kind, tensor, data_type, specs).map_err(wrong)?;
        }
    }
    let max_batch =
        u64::try_from(config.max_batch_size).map_err(|_| wrong("`max_batch_size` is negative".to_owned()))?;
    if max_batch > 0 {
        policy::check_rows(entry).map_err(wrong)?;
    }
    let sequences = match &config.scheduling_choice {
        Some(SchedulingChoice::SequenceBatching(batching)) => {
            Some(sequences::policy(config, batching, max_batch, entry).map_err(wrong)?)
        }
        _ => None,
    };
    let policy = policy::policy(config, max_batch, unasked_rows, entry).map_err(wrong)?;
    let pinned = flag(config, "ired.pinned").map_err(wrong)?;
    labels::configured(config).map_err(wrong)?;
    tolerance(name, config)?;
    let max_rows = Some(max_batch).filter(|&rows| rows > 0);
    Ok(Scheduling { policy, sequences, max_rows, pinned })
}

/// How far answers to golden requests may be from what is expected.
pub fn tolerance(name: &str, config: &ModelConfig) -> Result<Tolerance, Error> {
    let bound = |parameter_name: &str| {
        let Some(text) = parameter(config, parameter_name) else { return Ok(0.0) };
        let number = text.parse::<f64>().ok().filter(|number| number.is_finite() && *number >= 0.0);
        number.ok_or_else(|| {
            let text = text.escape_debug();
            Error::invalid(format!(
                "the configuration of `{name}`: `{parameter_name}` is `{text}`, not a number from 0 on"
            ))
        })
    };
    Ok(Tolerance { absolute: bound("ired.golden_absolute")?, relative: bound("ired.golden_relative")? })
}

fn parameter<'a>(config: &'a ModelConfig, name: &str) -> Option<&'a str> {
    config.parameters.get(name).map(|parameter| parameter.string_value.as_str())
}

/// A parameter that is true or, as without it, false.
fn flag(config: &ModelConfig, name: &str) -> Result<bool, String> {
    match parameter(config, name) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(other) => Err(format!("`{name}` is `{}`, neither true nor false", other.escape_debug())),
    }
}

fn named<T>(tensors: &[T], read: impl Fn(&T) -> (&String, i32)) -> Vec<(&str, i32)> {
    tensors.iter().map(read).map(|(name, data_type)| (name.as_str(), data_type)).collect()
}

fn check_tensor(kind: &str, name: &str, found: i32, specs: &[TensorSpec]) -> Result<(), String> {
    let Some(spec) = specs.iter().find(|spec| spec.name == name) else {
        let names: Vec<String> = specs.iter().map(|spec| format!("`{}`", spec.name)).collect();
        return Err(format!(
            "the model has no {kind} `{}`; it has {}",
            name.escape_debug(),
            names.join(", ")
        ));
    };
    let (found, expected) = (DataType::try_from(found).unwrap_or_default(), data_type(spec.dtype));
    if found != DataType::TypeInvalid && found != expected {
        let (found, expected) = (found.as_str_name(), expected.as_str_name());
        return Err(format!("{kind} `{name}` is {found}; the model's is {expected}"));
    }
    Ok(())
}

/// Whether the model that is served is the one that the configuration names.
pub fn check_main_file(name: &str, config: &ModelConfig, served: &str) -> Result<(), Error> {
    let named = &config.default_model_filename;
    if named.is_empty() || named == served {
        return Ok(());
    }
    let named = named.escape_debug();
    Err(Error::invalid(format!(
        "the configuration of `{name}`: `default_model_filename` is `{named}`; what is served is `{served}`"
    )))
}

/// What would change answers, or who may get them, if it were passed over.
fn refuse(name: &str, config: &ModelConfig) -> Result<(), Error> {
    let sequences = matches!(config.scheduling_choice, Some(SchedulingChoice::SequenceBatching(_)));
    let ensemble = matches!(config.scheduling_choice, Some(SchedulingChoice::EnsembleScheduling(_)));
    let iterative = matches!(
        &config.scheduling_choice,
        Some(SchedulingChoice::SequenceBatching(batching)) if batching.iterative_sequence
    );
    let decoupled = config.model_transaction_policy.is_some_and(|policy| policy.decoupled);
    let (inputs, outputs, groups) = (&config.input, &config.output, &config.instance_group);
    let shapes = "tensors of requests have the model's own shapes";
    let tensors = "models get and give the tensors of requests";
    let fields = [
        ("ensemble_scheduling", ensemble, "each model is asked for itself"),
        ("batch_input", !config.batch_input.is_empty(), tensors),
        ("batch_output", !config.batch_output.is_empty(), tensors),
        ("model_operations", config.model_operations.is_some(), "operators are those of the compiler"),
        ("model_repository_agents", config.model_repository_agents.is_some(), "files are served as they are"),
        (
            "model_transaction_policy.decoupled without sequence_batching.iterative_sequence",
            decoupled && !iterative,
            "a run has one response, so a request gets several only where it is run several times",
        ),
        (
            "parameters: ired.last, ired.max_responses without sequence_batching.iterative_sequence",
            iterations::says_end(config) && !iterative,
            "a request is run once",
        ),
        (
            "model_warmup with sequence_batching",
            sequences && !config.model_warmup.is_empty(),
            "warm-up requests belong to no sequence",
        ),
        ("input.reshape", inputs.iter().any(|input| input.reshape.is_some()), shapes),
        ("output.reshape", outputs.iter().any(|output| output.reshape.is_some()), shapes),
        (
            "input.allow_ragged_batch",
            inputs.iter().any(|input| input.allow_ragged_batch),
            "requests that run as one differ in their rows only",
        ),
        ("input.optional", inputs.iter().any(|input| input.optional), "a request gives every input"),
        (
            "instance_group.kind: KIND_GPU",
            groups.iter().any(|group| group.kind() == Kind::Gpu),
            "this server has no GPU; KIND_CPU, KIND_AUTO and KIND_MODEL run on its processors",
        ),
    ];
    match fields.iter().find(|(_, found, _)| *found) {
        None => Ok(()),
        Some((field, _, instead)) => Err(Error::Unsupported(format!(
            "the configuration of `{name}`: `{field}` is not supported: {instead}"
        ))),
    }
}

/// What only says how another server would do it.
fn passed_over(config: &ModelConfig) -> impl Iterator<Item = &'static str> {
    let (inputs, outputs, groups) = (&config.input, &config.output, &config.instance_group);
    let sequences = match &config.scheduling_choice {
        Some(SchedulingChoice::SequenceBatching(sequences)) => Some(sequences),
        _ => None,
    };
    let states = sequences.map_or(&[][..], |sequences| &sequences.state);
    let strategy = sequences.and_then(|sequences| sequences.strategy_choice.as_ref());
    let utilization =
        matches!(strategy, Some(StrategyChoice::Direct(direct)) if direct.minimum_slot_utilization > 0.0);
    let ordered = matches!(strategy, Some(StrategyChoice::Oldest(oldest)) if oldest.preserve_ordering)
        || matches!(&config.scheduling_choice, Some(SchedulingChoice::DynamicBatching(b)) if b.preserve_ordering);
    let shape_tensors = inputs.iter().any(|i| i.is_shape_tensor) || outputs.iter().any(|o| o.is_shape_tensor);
    let formats =
        inputs.iter().any(|i| i.is_non_linear_format_io) || outputs.iter().any(|o| o.is_non_linear_format_io);
    let fields = [
        ("optimization", config.optimization.is_some()),
        ("response_cache", config.response_cache.is_some_and(|cache| cache.enable)),
        ("model_metrics", config.model_metrics.is_some()),
        ("metric_tags", !config.metric_tags.is_empty()),
        ("cc_model_filenames", !config.cc_model_filenames.is_empty()),
        ("runtime", !config.runtime.is_empty()),
        ("is_shape_tensor", shape_tensors),
        ("is_non_linear_format_io", formats),
        ("preserve_ordering", ordered),
        ("minimum_slot_utilization", utilization),
        ("state.use_same_buffer_for_input_output", states.iter().any(|s| s.use_same_buffer_for_input_output)),
        ("state.use_growable_memory", states.iter().any(|state| state.use_growable_memory)),
        ("instance_group.gpus", groups.iter().any(|group| !group.gpus.is_empty())),
        ("instance_group.rate_limiter", groups.iter().any(|group| group.rate_limiter.is_some())),
        ("instance_group.profile", groups.iter().any(|group| !group.profile.is_empty())),
        ("instance_group.passive", groups.iter().any(|group| group.passive)),
        ("instance_group.secondary_devices", groups.iter().any(|group| !group.secondary_devices.is_empty())),
    ];
    fields.into_iter().filter(|(_, found)| *found).map(|(field, _)| field)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_notations_say_the_same() {
        let text = "max_batch_size: 8 # rows\ndynamic_batching { preferred_batch_size: [ 4, 8 ]\n\
                    max_queue_delay_microseconds: 100 }\ninstance_group [ { count: 2 kind: KIND_CPU } ]\n\
                    parameters [ # several\n{ key: 'ired.share' value { string_value: \"2\" } },\n\
                    { key: \"a[\" value { string_value: \"#[\\\"[\" } } ]";
        let json = r##"{"max_batch_size": 8, "dynamicBatching": {"preferred_batch_size": [4, 8],
            "maxQueueDelayMicroseconds": "100"}, "instance_group": [{"count": 2, "kind": "KIND_CPU"}],
            "parameters": {"ired.share": {"string_value": "2"}, "a[": {"string_value": "#[\"["}}}"##;
        assert_eq!(from_text(text).unwrap(), from_json(json).unwrap());
    }

    #[test]
    fn what_is_unknown_is_named() {
        let error = |result: Result<ModelConfig, Error>| result.unwrap_err().to_string();
        let text = error(from_text("max_batch_size: 8 max_batchsize: 7"));
        assert!(text.contains("max_batchsize"), "{text}");
        let text = error(from_json(r#"{"max_batchsize": 7}"#));
        assert!(text.contains("max_batchsize"), "{text}");
        for broken in ["{", "max_batch_size: x", "name: \"", "\0"] {
            assert!(from_text(broken).is_err(), "{broken:?}");
        }
        assert!(from_json("{} {}").is_err());
        let large = format!("{{}}{}", " ".repeat(CONFIG_BYTES as usize));
        assert!(matches!(from_json(&large), Err(Error::TooLarge { found: 1_048_578, .. })));
        assert_eq!(from_text("").unwrap(), ModelConfig::default());
    }
    #[test]
    fn what_has_no_effect_is_listed_and_what_would_have_is_refused() {
        let config = |text: &str| from_text(text).unwrap();
        let found = |text: &str| passed_over(&config(text)).collect::<Vec<_>>();
        let group = "instance_group { kind: KIND_CPU count: 2 }";
        assert_eq!(found(group), [""; 0]);
        let group = "instance_group [ { count: 2 }, { passive: true count: 3 profile: 'p' \
                     secondary_devices { kind: KIND_NVDLA } } ]";
        let of_group = ["profile", "passive", "secondary_devices"];
        assert_eq!(found(group), of_group.map(|field| format!("instance_group.{field}")));
        let oldest = "sequence_batching { oldest { preserve_ordering: true } }";
        let direct = "sequence_batching { direct { minimum_slot_utilization: 0.5 } }";
        assert_eq!(found(oldest), ["preserve_ordering"]);
        assert_eq!(found(direct), ["minimum_slot_utilization"]);

        let refused = |text: &str| refuse("m", &config(text)).map_err(|error| error.to_string());
        let gpu = "the configuration of `m`: `instance_group.kind: KIND_GPU` is not supported: this server has no GPU; \
                   KIND_CPU, KIND_AUTO and KIND_MODEL run on its processors";
        assert_eq!(refused("instance_group [ { kind: KIND_CPU }, { kind: KIND_GPU } ]"), Err(gpu.to_owned()));
        assert_eq!(refused("instance_group [ { kind: KIND_AUTO }, { kind: KIND_MODEL } ]"), Ok(()));
        let decoupled = "the configuration of `m`: `model_transaction_policy.decoupled without \
                         sequence_batching.iterative_sequence` is not supported: a run has one response, so a request \
                         gets several only where it is run several times";
        assert_eq!(refused("model_transaction_policy { decoupled: true }"), Err(decoupled.to_owned()));
        assert_eq!(
            refused(
                "model_transaction_policy { decoupled: true } sequence_batching { iterative_sequence: true }"
            ),
            Ok(())
        );
        assert!(refused("input { name: 'x' optional: true }").is_err());

        let other = config("default_model_filename: 'model.plan'");
        let error = check_main_file("m", &other, "model.onnx").unwrap_err().to_string();
        assert!(error.ends_with("is `model.plan`; what is served is `model.onnx`"), "{error}");
        assert!(check_main_file("m", &other, "model.plan").is_ok());
    }
}
