//! The protocol's types as the JSON of its REST form: field names as in the protocol, numbers as numbers.

use ired_proto::inference::model_metadata_response::TensorMetadata;
use ired_proto::inference::repository_index_response::ModelIndex;
use ired_proto::inference::{
    DataType, InferBatchStatistics, InferStatistics, MemoryUsage, ModelConfig, ModelMetadataResponse,
    ModelStatistics, ServerMetadataResponse, StatisticDuration, model_instance_group, model_version_policy,
};
use serde_json::{Map, Value, json};

use crate::model_config;

pub(super) fn server(server: &ServerMetadataResponse) -> Value {
    json!({ "name": server.name, "version": server.version, "extensions": server.extensions })
}

pub(super) fn metadata(model: &ModelMetadataResponse) -> Value {
    let tensors = |tensors: &[TensorMetadata]| -> Vec<Value> {
        let tensor = |t: &TensorMetadata| json!({ "name": t.name, "datatype": t.datatype, "shape": t.shape });
        tensors.iter().map(tensor).collect()
    };
    json!({
        "name": model.name,
        "versions": model.versions,
        "platform": model.platform,
        "inputs": tensors(&model.inputs),
        "outputs": tensors(&model.outputs),
    })
}

pub(super) fn index(models: &[ModelIndex]) -> Value {
    let model = |m: &ModelIndex| json!({ "name": m.name, "version": m.version, "state": m.state, "reason": m.reason });
    models.iter().map(model).collect()
}

pub(super) fn config(config: &ModelConfig) -> Value {
    let data_type = |number: i32| DataType::try_from(number).unwrap_or_default().as_str_name();
    let inputs: Vec<Value> = config
        .input
        .iter()
        .map(|input| {
            json!({
                "name": input.name,
                "data_type": data_type(input.data_type),
                "format": "FORMAT_NONE",
                "dims": input.dims,
                "is_shape_tensor": input.is_shape_tensor,
                "allow_ragged_batch": input.allow_ragged_batch,
                "optional": input.optional,
            })
        })
        .collect();
    let outputs: Vec<Value> = config
        .output
        .iter()
        .map(|output| {
            json!({
                "name": output.name,
                "data_type": data_type(output.data_type),
                "dims": output.dims,
                "label_filename": output.label_filename,
                "is_shape_tensor": output.is_shape_tensor,
            })
        })
        .collect();
    let groups: Vec<Value> = config
        .instance_group
        .iter()
        .map(|group| {
            let kind = model_instance_group::Kind::try_from(group.kind).unwrap_or_default().as_str_name();
            json!({ "name": group.name, "kind": kind, "count": group.count, "gpus": group.gpus })
        })
        .collect();
    let parameters: Map<String, Value> = config
        .parameters
        .iter()
        .map(|(name, value)| (name.clone(), json!({ "string_value": value.string_value })))
        .collect();
    let policy = match config.version_policy.as_ref().and_then(|policy| policy.policy_choice.as_ref()) {
        Some(model_version_policy::PolicyChoice::Latest(latest)) => {
            json!({ "latest": { "num_versions": latest.num_versions } })
        }
        Some(model_version_policy::PolicyChoice::Specific(specific)) => {
            json!({ "specific": { "versions": specific.versions } })
        }
        Some(model_version_policy::PolicyChoice::All(_)) | None => json!({ "all": {} }),
    };
    let mut described = json!({
        "name": config.name,
        "platform": config.platform,
        "backend": config.backend,
        "version_policy": policy,
        "max_batch_size": config.max_batch_size,
        "input": inputs,
        "output": outputs,
        "instance_group": groups,
        "default_model_filename": config.default_model_filename,
        "cc_model_filenames": config.cc_model_filenames,
        "metric_tags": config.metric_tags,
        "parameters": parameters,
        "model_transaction_policy": {
            "decoupled": config.model_transaction_policy.is_some_and(|policy| policy.decoupled),
        },
    });
    if let Some((field, scheduling)) = model_config::scheduling_json(config) {
        described[field] = scheduling;
    }
    described
}

pub(super) fn statistics(models: &[ModelStatistics]) -> Value {
    let models: Vec<Value> = models.iter().map(model_statistics).collect();
    json!({ "model_stats": models })
}

fn model_statistics(model: &ModelStatistics) -> Value {
    let batch = |batch: &InferBatchStatistics| {
        json!({
            "batch_size": batch.batch_size,
            "compute_input": duration(batch.compute_input),
            "compute_infer": duration(batch.compute_infer),
            "compute_output": duration(batch.compute_output),
        })
    };
    let memory = |m: &MemoryUsage| json!({ "type": m.r#type, "id": m.id, "byte_size": m.byte_size });
    let stats: InferStatistics = model.inference_stats.unwrap_or_default();
    json!({
        "name": model.name,
        "version": model.version,
        "last_inference": model.last_inference,
        "inference_count": model.inference_count,
        "execution_count": model.execution_count,
        "inference_stats": {
            "success": duration(stats.success),
            "fail": duration(stats.fail),
            "queue": duration(stats.queue),
            "compute_input": duration(stats.compute_input),
            "compute_infer": duration(stats.compute_infer),
            "compute_output": duration(stats.compute_output),
            "cache_hit": duration(stats.cache_hit),
            "cache_miss": duration(stats.cache_miss),
        },
        "response_stats": {},
        "batch_stats": model.batch_stats.iter().map(batch).collect::<Vec<_>>(),
        "memory_usage": model.memory_usage.iter().map(memory).collect::<Vec<_>>(),
    })
}

fn duration(duration: Option<StatisticDuration>) -> Value {
    let duration = duration.unwrap_or_default();
    json!({ "count": duration.count, "ns": duration.ns })
}
