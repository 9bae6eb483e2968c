//! `ired.v1.DeviceService`: what models can run on.

use std::sync::Arc;

use ired_proto::ired::v1::device_service_server::DeviceService;
use ired_proto::ired::v1::{Device, DeviceGroup, ListDevicesRequest, ListDevicesResponse};
use ired_worker::Cores;
use tonic::{Request, Response, Status};

use crate::app::App;
use crate::devices::Host;

pub struct Devices(pub Arc<App>);

#[tonic::async_trait]
impl DeviceService for Devices {
    async fn list_devices(
        &self,
        _: Request<ListDevicesRequest>,
    ) -> Result<Response<ListDevicesResponse>, Status> {
        Ok(Response::new(ListDevicesResponse { devices: list(&self.0, |_| true) }))
    }
}

/// The devices, with those of their models that may be named.
pub(super) fn list(app: &App, names: impl Fn(&str) -> bool) -> Vec<Device> {
    let host = &app.host;
    let views = app.registry.versions().into_iter();
    let views = views.filter(|view| view.serving.is_some() && names(&view.name));
    let group =
        |(name, cores): (&String, &Cores)| DeviceGroup { name: name.clone(), cores: cores.to_string() };
    vec![Device {
        id: "cpu:0".to_owned(),
        driver: "cpu".to_owned(),
        name: host.name.clone(),
        triple: host.triple.clone(),
        features: host.features.clone(),
        units: host.units,
        memory_bytes: Host::memory().total_bytes,
        models: views.map(|view| format!("{}/{}", view.name, view.version)).collect(),
        groups: app.settings.device_groups.iter().map(group).collect(),
    }]
}
