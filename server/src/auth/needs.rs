//! What every call needs: one line for each method of each service and for each route.

use axum::http::Method;

use crate::config::Open;

/// What a role can permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Permission {
    See,
    Infer,
    Load,
    Admin,
}

impl Permission {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::See => "see",
            Self::Infer => "infer",
            Self::Load => "load",
            Self::Admin => "admin",
        }
    }
}

/// What a call needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Nothing, ever: the answer is part of every copy of the program.
    Nothing,
    /// Nothing where the settings say so; otherwise a caller that is known.
    Open(Open),
    /// A caller that is known.
    Known,
    /// A caller that is known, who is told only of the models that it may see.
    Listing,
    /// The permission for the model that the call is about.
    Model(Permission),
    /// The permission for every model: the call is about the server.
    Server(Permission),
}

impl Need {
    /// Whether what came of such a call is recorded, refused or not.
    pub(super) fn is_recorded(self) -> bool {
        matches!(self, Self::Model(Permission::Load | Permission::Admin) | Self::Server(Permission::Admin))
    }
}

const SEE: Need = Need::Model(Permission::See);
const INFER: Need = Need::Model(Permission::Infer);
const LOAD: Need = Need::Model(Permission::Load);
const ADMIN: Need = Need::Server(Permission::Admin);
/// Others wait meanwhile.
const PROFILE: Need = Need::Model(Permission::Admin);
const HEALTH: Need = Need::Open(Open::Health);
const REFLECTION: Need = Need::Open(Open::Reflection);

/// Every method of gRPC.
#[rustfmt::skip]
const METHODS: &[(&str, Need)] = &[
    ("/inference.GRPCInferenceService/ServerLive", HEALTH),
    ("/inference.GRPCInferenceService/ServerReady", HEALTH),
    ("/inference.GRPCInferenceService/ModelReady", SEE),
    ("/inference.GRPCInferenceService/ServerMetadata", Need::Known),
    ("/inference.GRPCInferenceService/ModelMetadata", SEE),
    ("/inference.GRPCInferenceService/ModelInfer", INFER),
    ("/inference.GRPCInferenceService/ModelStreamInfer", INFER),
    ("/inference.GRPCInferenceService/ModelConfig", SEE),
    ("/inference.GRPCInferenceService/ModelStatistics", Need::Listing),
    ("/inference.GRPCInferenceService/RepositoryIndex", Need::Listing),
    ("/inference.GRPCInferenceService/RepositoryModelLoad", LOAD),
    ("/inference.GRPCInferenceService/RepositoryModelUnload", LOAD),
    // Regions are the server's, not a caller's: who may name one may read what another wrote there.
    ("/inference.GRPCInferenceService/SystemSharedMemoryStatus", ADMIN),
    ("/inference.GRPCInferenceService/SystemSharedMemoryRegister", ADMIN),
    ("/inference.GRPCInferenceService/SystemSharedMemoryUnregister", ADMIN),
    ("/inference.GRPCInferenceService/CudaSharedMemoryStatus", ADMIN),
    ("/inference.GRPCInferenceService/CudaSharedMemoryRegister", ADMIN),
    ("/inference.GRPCInferenceService/CudaSharedMemoryUnregister", ADMIN),
    ("/inference.GRPCInferenceService/TraceSetting", ADMIN),
    ("/inference.GRPCInferenceService/LogSettings", ADMIN),
    ("/ired.v1.ModelService/UploadModel", LOAD),
    ("/ired.v1.ModelService/ListModels", Need::Listing),
    ("/ired.v1.ModelService/DeleteModel", LOAD),
    ("/ired.v1.ModelService/SetLabel", LOAD),
    ("/ired.v1.ModelService/DeleteLabel", LOAD),
    ("/ired.v1.CompileService/Compile", LOAD),
    ("/ired.v1.CompileService/GetModule", LOAD),
    ("/ired.v1.DeviceService/ListDevices", Need::Listing),
    ("/ired.v1.TraceService/ListTraces", Need::Listing),
    ("/ired.v1.TraceService/GetTrace", Need::Listing),
    ("/ired.v1.TraceService/ProfileModel", PROFILE),
    ("/ired.v1.ActivityService/GetActivity", Need::Listing),
    ("/grpc.health.v1.Health/Check", HEALTH),
    ("/grpc.health.v1.Health/Watch", HEALTH),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", REFLECTION),
    ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", REFLECTION),
];

/// Every route of REST, with the name of its model in `{model}`.
#[rustfmt::skip]
const ROUTES: &[(Method, &str, Need)] = &[
    (Method::GET, "/v2", Need::Known),
    (Method::GET, "/v2/", Need::Known),
    (Method::GET, "/v2/health/live", HEALTH),
    (Method::GET, "/v2/health/ready", HEALTH),
    (Method::GET, "/v2/models/stats", Need::Listing),
    (Method::GET, "/v2/models/{model}", SEE),
    (Method::GET, "/v2/models/{model}/ready", SEE),
    (Method::GET, "/v2/models/{model}/config", SEE),
    (Method::GET, "/v2/models/{model}/stats", SEE),
    (Method::POST, "/v2/models/{model}/infer", INFER),
    (Method::POST, "/v2/models/{model}/generate", INFER),
    (Method::POST, "/v2/models/{model}/generate_stream", INFER),
    (Method::GET, "/v2/models/{model}/versions/{version}", SEE),
    (Method::GET, "/v2/models/{model}/versions/{version}/ready", SEE),
    (Method::GET, "/v2/models/{model}/versions/{version}/config", SEE),
    (Method::GET, "/v2/models/{model}/versions/{version}/stats", SEE),
    (Method::POST, "/v2/models/{model}/versions/{version}/infer", INFER),
    (Method::POST, "/v2/models/{model}/versions/{version}/generate", INFER),
    (Method::POST, "/v2/models/{model}/versions/{version}/generate_stream", INFER),
    (Method::POST, "/v2/repository/index", Need::Listing),
    (Method::POST, "/v2/repository/{repository}/index", Need::Listing),
    (Method::POST, "/v2/repository/models/{model}/load", LOAD),
    (Method::POST, "/v2/repository/models/{model}/unload", LOAD),
    (Method::GET, "/v2/systemsharedmemory/status", ADMIN),
    (Method::GET, "/v2/systemsharedmemory/region/{region}/status", ADMIN),
    (Method::POST, "/v2/systemsharedmemory/region/{region}/register", ADMIN),
    (Method::POST, "/v2/systemsharedmemory/region/{region}/unregister", ADMIN),
    (Method::POST, "/v2/systemsharedmemory/unregister", ADMIN),
    (Method::GET, "/v2/cudasharedmemory/status", ADMIN),
    (Method::GET, "/v2/cudasharedmemory/region/{region}/status", ADMIN),
    (Method::POST, "/v2/cudasharedmemory/region/{region}/register", ADMIN),
    (Method::POST, "/v2/cudasharedmemory/region/{region}/unregister", ADMIN),
    (Method::POST, "/v2/cudasharedmemory/unregister", ADMIN),
    (Method::GET, "/v2/logging", ADMIN),
    (Method::POST, "/v2/logging", ADMIN),
    (Method::GET, "/v2/trace/setting", ADMIN),
    (Method::POST, "/v2/trace/setting", ADMIN),
    (Method::GET, "/v2/models/{model}/trace/setting", ADMIN),
    (Method::POST, "/v2/models/{model}/trace/setting", ADMIN),
    (Method::GET, "/v1/requests", Need::Listing),
    (Method::GET, "/v1/requests/{id}", Need::Listing),
    (Method::GET, "/v1/models", Need::Listing),
    (Method::POST, "/v1/models/{model}", LOAD),
    (Method::DELETE, "/v1/models/{model}", LOAD),
    (Method::POST, "/v1/models/{model}/compile", LOAD),
    (Method::GET, "/v1/models/{model}/latency", SEE),
    (Method::POST, "/v1/models/{model}/profile", PROFILE),
    (Method::POST, "/v1/models/{model}/versions/{version}", LOAD),
    (Method::DELETE, "/v1/models/{model}/versions/{version}", LOAD),
    (Method::POST, "/v1/models/{model}/versions/{version}/compile", LOAD),
    (Method::GET, "/v1/models/{model}/versions/{version}/latency", SEE),
    (Method::POST, "/v1/models/{model}/versions/{version}/profile", PROFILE),
    (Method::GET, "/v1/devices", Need::Listing),
    // As the metrics: of all models.
    (Method::GET, "/v1/status", Need::Server(Permission::See)),
    // The console's files; what they show they ask REST for, with the credentials that a person gives them.
    (Method::GET, "/", Need::Nothing),
    (Method::GET, "/console/{file}", Need::Nothing),
    (Method::GET, "/openapi.json", Need::Known),
    (Method::GET, "/metrics", Need::Open(Open::Metrics)),
];

/// What a gRPC method needs; `None` for one that there is not.
pub(super) fn of_method(path: &str) -> Option<Need> {
    METHODS.iter().find(|(method, _)| *method == path).map(|(_, need)| *need)
}

/// What is known of a route.
pub(super) enum Route {
    Needs(Need),
    /// Only other methods of it.
    OtherMethods,
    Unknown,
}

/// What a REST route needs.
pub(super) fn of_route(method: &Method, template: &str) -> Route {
    // Who may get an answer may get its head.
    let method = if *method == Method::HEAD { &Method::GET } else { method };
    let mut routes = ROUTES.iter().filter(|(_, route, _)| *route == template).peekable();
    if routes.peek().is_none() {
        return Route::Unknown;
    }
    let found = routes.find(|(known, _, _)| known == method);
    found.map_or(Route::OtherMethods, |(_, _, need)| Route::Needs(*need))
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use prost_types::FileDescriptorSet;

    use super::*;

    #[test]
    fn every_method_of_every_service_has_a_line() {
        let sets = [
            ired_proto::FILE_DESCRIPTOR_SET,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ];
        let mut found = 0;
        for set in sets {
            for file in FileDescriptorSet::decode(set).unwrap().file {
                for service in &file.service {
                    for method in &service.method {
                        let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                        assert!(of_method(&path).is_some(), "`{path}` has no line in METHODS");
                        found += 1;
                    }
                }
            }
        }
        assert_eq!(found, METHODS.len(), "METHODS has a line for what there is not");
    }

    #[test]
    fn every_route_has_a_line() {
        let mut found = 0;
        let mut folders =
            vec![std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src/services"))];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let text = std::fs::read_to_string(&path).unwrap();
                for rest in text.split(".route(").skip(1) {
                    let rest = rest.trim_start().trim_start_matches("&format!(").strip_prefix('"');
                    let template = rest.and_then(|rest| rest.split_once('"'));
                    let (template, _) = template.unwrap_or_else(|| panic!("no literal route in {path:?}"));
                    let route = template
                        .replace("{SYSTEM}", "/v2/systemsharedmemory")
                        .replace("{CUDA}", "/v2/cudasharedmemory")
                        .replace("{kind}", "systemsharedmemory")
                        .replace("{{", "{")
                        .replace("}}", "}");
                    let known = ROUTES.iter().any(|(_, known, _)| *known == route);
                    assert!(known, "`{route}` of {} has no line in ROUTES", path.display());
                    found += 1;
                }
            }
        }
        assert!(found > 10, "found {found} routes: are they elsewhere now?");
    }

    #[test]
    fn every_route_is_in_the_openapi_document() {
        // The console's files are for browsers, the metrics have a door of their own, and `/v2/` is `/v2`.
        const OTHERS: [&str; 4] = ["/", "/console/{file}", "/metrics", "/v2/"];
        let document = include_str!("../services/rest/openapi.json");
        let document: serde_json::Value = serde_json::from_str(document).unwrap();
        for (method, route, _) in ROUTES.iter().filter(|(_, route, _)| !OTHERS.contains(route)) {
            let operation = &document["paths"][route][method.as_str().to_lowercase()];
            assert!(operation.is_object(), "the document has no {method} {route}");
        }
    }

    #[test]
    fn a_route_with_a_model_needs_a_permission_for_it() {
        for (_, route, need) in ROUTES {
            let about_one = route.contains("{model}");
            let for_one = matches!(need, Need::Model(_));
            assert!(for_one == about_one || *need == ADMIN, "{route}");
        }
    }
}
