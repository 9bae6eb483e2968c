//! `ired.v1.DeviceService`: what models can run on.

use std::sync::Arc;

use ired_proto::ired::v1::device_service_server::DeviceService;
use ired_proto::ired::v1::{Device, ListDevicesRequest, ListDevicesResponse};
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
        let host = &self.0.host;
        let views = self.0.registry.versions().into_iter().filter(|view| view.serving.is_some());
        let cpu = Device {
            id: "cpu:0".to_owned(),
            driver: "cpu".to_owned(),
            name: host.name.clone(),
            triple: host.triple.clone(),
            features: host.features.clone(),
            units: host.units,
            memory_bytes: Host::memory().total_bytes,
            models: views.map(|view| format!("{}/{}", view.name, view.version)).collect(),
        };
        Ok(Response::new(ListDevicesResponse { devices: vec![cpu] }))
    }
}
