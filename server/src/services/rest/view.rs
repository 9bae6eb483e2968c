//! The protocol's types as the JSON of its REST form: field names as in the protocol, numbers as numbers.

use ired_proto::inference::model_metadata_response::TensorMetadata;
use ired_proto::inference::repository_index_response::ModelIndex;
use ired_proto::inference::{
    InferBatchStatistics, InferStatistics, MemoryUsage, ModelMetadataResponse, ModelStatistics,
    ServerMetadataResponse, StatisticDuration,
};
use serde_json::{Value, json};

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
