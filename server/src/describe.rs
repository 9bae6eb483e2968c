//! Metadata, configuration, statistics and listings in the inference protocol's own types.

use std::time::Duration;

use ired_module::DType;
use ired_module::signature::{DimSpec, TensorSpec};
use ired_proto::inference::model_metadata_response::TensorMetadata;
use ired_proto::inference::repository_index_response::ModelIndex;
use ired_proto::inference::{
    DataType, InferBatchStatistics, InferStatistics, MemoryUsage, ModelConfig, ModelInput,
    ModelInstanceGroup, ModelMetadataResponse, ModelOutput, ModelParameter, ModelStatistics,
    ModelTransactionPolicy, ModelVersionPolicy, ServerMetadataResponse, StatisticDuration,
    model_instance_group, model_version_policy,
};

use crate::config::Settings;
use crate::engine::Process;
use crate::error::Error;
use crate::registry::{Registry, Served, State, VersionView};
use crate::stats::{Executions, Tally};
use crate::tensors::datatype;

/// What kind of thing a model is here, as `<project>_<format>`.
pub(crate) const PLATFORM: &str = "ired_irm";
/// What runs it.
pub(crate) const BACKEND: &str = "ired";
/// Parts of the protocol beyond its core that this server has.
const EXTENSIONS: &[&str] = &[
    "classification",
    "model_repository",
    "model_repository(unload_dependents)",
    "model_configuration",
    "system_shared_memory",
    "binary_tensor_data",
    "parameters",
    "statistics",
    "trace",
    "logging",
];

pub fn server(settings: &Settings) -> ServerMetadataResponse {
    ServerMetadataResponse {
        name: settings.server_name.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        extensions: EXTENSIONS.iter().map(|&name| name.to_owned()).collect(),
    }
}

pub fn metadata(registry: &Registry, served: &Served) -> ModelMetadataResponse {
    let tensor = |spec: &TensorSpec| TensorMetadata {
        name: spec.name.clone(),
        datatype: datatype(spec.dtype).to_owned(),
        shape: dims(spec),
    };
    let views = registry.versions().into_iter().filter(|view| view.name == served.name);
    ModelMetadataResponse {
        name: served.name.clone(),
        versions: views.filter(|view| view.serving.is_some()).map(|view| view.version_text()).collect(),
        platform: PLATFORM.to_owned(),
        inputs: served.inputs().map(tensor).collect(),
        outputs: served.outputs().map(tensor).collect(),
    }
}

pub fn config(served: &Served, settings: &Settings) -> ModelConfig {
    let module = served.runner.module();
    let configured = served.config.as_deref().cloned().unwrap_or_default();
    // Where there are batches, shapes are those of a row.
    let batched = usize::from(configured.max_batch_size > 0);
    let dims = |spec: &TensorSpec| dims(spec).into_iter().skip(batched).collect::<Vec<_>>();
    // Clients read from the format in which order a picture's sizes are.
    let format =
        |name: &str| configured.input.iter().find(|input| input.name == name).map(|input| input.format);
    let input = |spec: &TensorSpec| ModelInput {
        name: spec.name.clone(),
        data_type: data_type(spec.dtype).into(),
        format: format(&spec.name).unwrap_or_default(),
        dims: dims(spec),
        ..Default::default()
    };
    let labels =
        |name: &str| configured.output.iter().find(|o| o.name == name).map(|o| o.label_filename.clone());
    let output = |spec: &TensorSpec| ModelOutput {
        name: spec.name.clone(),
        data_type: data_type(spec.dtype).into(),
        dims: dims(spec),
        label_filename: labels(&spec.name).unwrap_or_default(),
        ..Default::default()
    };
    let count = u32::try_from(settings.versions_served).unwrap_or(u32::MAX);
    let policy = match count {
        0 => model_version_policy::PolicyChoice::All(model_version_policy::All {}),
        num_versions => {
            model_version_policy::PolicyChoice::Latest(model_version_policy::Latest { num_versions })
        }
    };
    let parameter = |name: &str, value: String| (name.to_owned(), ModelParameter { string_value: value });
    ModelConfig {
        name: served.name.clone(),
        platform: PLATFORM.to_owned(),
        backend: BACKEND.to_owned(),
        version_policy: configured
            .version_policy
            .or(Some(ModelVersionPolicy { policy_choice: Some(policy) })),
        model_warmup: configured.model_warmup,
        max_batch_size: configured.max_batch_size,
        input: served.inputs().map(input).collect(),
        output: served.outputs().map(output).collect(),
        instance_group: instance_groups(served),
        scheduling_choice: configured.scheduling_choice,
        parameters: [
            parameter("target", module.target.triple.clone()),
            parameter("target_features", module.target.features.join(",")),
            parameter("compiler", module.provenance.compiler.clone()),
            parameter("model_digest", served.model_digest.to_string()),
        ]
        .into_iter()
        .chain(configured.parameters)
        .collect(),
        model_transaction_policy: Some(ModelTransactionPolicy { decoupled: served.is_decoupled() }),
        ..Default::default()
    }
}

/// One for each process, as Triton has them.
fn instance_groups(served: &Served) -> Vec<ModelInstanceGroup> {
    let group = |(at, Process { group, .. }): (usize, Process)| ModelInstanceGroup {
        name: format!("{}_{at}", served.name),
        count: group.count.map_or(1, |count| i32::try_from(count).unwrap_or(i32::MAX)),
        kind: model_instance_group::Kind::Cpu.into(),
        host_policy: group.device_group.map(|group| group.name).unwrap_or_default(),
        ..Default::default()
    };
    served.runner.processes().into_iter().enumerate().map(group).collect()
}

/// Counters of one version, or of every version that answers.
pub fn statistics(registry: &Registry, name: &str, version: &str) -> Result<Vec<ModelStatistics>, Error> {
    let only = match name {
        "" => None,
        name => Some(registry.find(name, version)?),
    };
    let views = registry.versions().into_iter().filter(|view| match &only {
        None => view.serving.is_some(),
        Some(served) => view.name == served.name && (version.is_empty() || view.version == served.version),
    });
    Ok(views.filter(|view| view.serving.is_some()).map(|view| version_statistics(&view)).collect())
}

fn version_statistics(view: &VersionView) -> ModelStatistics {
    let stats = &view.stats;
    let duration = |tally: &Tally| Some(StatisticDuration { count: tally.count(), ns: tally.ns() });
    let executions = stats.executions();
    let batch = |(&size, tally): (&u64, &Executions)| {
        let duration = |took: Duration| {
            let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
            Some(StatisticDuration { count: tally.count, ns })
        };
        InferBatchStatistics {
            batch_size: size,
            compute_input: duration(tally.input),
            compute_infer: duration(tally.compute),
            compute_output: duration(tally.output),
        }
    };
    let resident = view.serving.as_ref().map_or(0, |served| served.runner.resident_bytes());
    ModelStatistics {
        name: view.name.clone(),
        version: view.version_text(),
        last_inference: stats.last_inference_ms(),
        inference_count: stats.inferences.get(),
        execution_count: stats.execution_count(),
        inference_stats: Some(InferStatistics {
            success: duration(&stats.success),
            fail: duration(&stats.fail),
            queue: duration(&stats.queue),
            compute_input: duration(&stats.compute_input),
            compute_infer: duration(&stats.compute_infer),
            compute_output: duration(&stats.compute_output),
            cache_hit: Some(StatisticDuration::default()),
            cache_miss: Some(StatisticDuration::default()),
        }),
        batch_stats: executions.iter().map(batch).collect(),
        memory_usage: vec![MemoryUsage { r#type: "CPU".to_owned(), id: 0, byte_size: resident }],
        response_stats: Default::default(),
    }
}

/// Every version, or those that are ready.
pub fn index(registry: &Registry, only_ready: bool) -> Vec<ModelIndex> {
    let views = registry.versions().into_iter().filter(|view| !only_ready || view.serving.is_some());
    let entry = |view: VersionView| {
        let (state, reason) = match view.state {
            State::Loading => ("LOADING", String::new()),
            State::Ready => ("READY", String::new()),
            State::Unloading => ("UNLOADING", String::new()),
            State::Unavailable(ref reason) => ("UNAVAILABLE", reason.clone()),
        };
        ModelIndex { version: view.version_text(), name: view.name, state: state.to_owned(), reason }
    };
    views.map(entry).collect()
}

fn dims(spec: &TensorSpec) -> Vec<i64> {
    let size = |dim: &DimSpec| match dim {
        DimSpec::Static(size) => i64::try_from(*size).unwrap_or(i64::MAX),
        DimSpec::Symbolic { .. } => -1,
    };
    spec.dims.iter().map(size).collect()
}

pub fn data_type(dtype: DType) -> DataType {
    // A tensor is of BYTES, what a configuration says is of STRING.
    if dtype == DType::String {
        return DataType::TypeString;
    }
    DataType::from_str_name(&format!("TYPE_{}", datatype(dtype))).unwrap_or(DataType::TypeInvalid)
}
