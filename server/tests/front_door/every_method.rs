//! Every method of every service, as somebody without a role and as a stranger: a new one is in here by itself.

use bytes::Bytes;
use ired_proto::inference::{ModelInferRequest, ModelStreamInferResponse};
use ired_proto::ired::v1::UploadModelRequest;
use ired_proto::ired::v1::upload_model_request::{Part, Start};
use prost::Message;
use prost_types::FileDescriptorSet;
use tonic::{Code, Request};

use crate::plain::Plain;
use crate::scripted::{Place, World, channel};
use crate::security::{ROLES, token, with_access};

fn methods() -> Vec<String> {
    let mut found = Vec::new();
    for file in FileDescriptorSet::decode(ired_proto::FILE_DESCRIPTOR_SET).unwrap().file {
        for service in &file.service {
            let path = |method: &str| format!("/{}.{}/{method}", file.package(), service.name());
            found.extend(service.method.iter().map(|method| path(method.name())));
        }
    }
    found
}

/// The code that a call ends with, and its first message.
async fn call(channel: &tonic::transport::Channel, path: &str, token: Option<&str>) -> (Code, Option<Bytes>) {
    let message = match path.rsplit('/').next().unwrap() {
        "UploadModel" => {
            let start = Start { name: "m".to_owned(), version: 0 };
            UploadModelRequest { part: Some(Part::Start(start)) }.encode_to_vec()
        }
        "ModelStreamInfer" => {
            ModelInferRequest { model_name: "m".to_owned(), ..Default::default() }.encode_to_vec()
        }
        _ => Vec::new(),
    };
    let mut request = Request::new(tokio_stream::once(Bytes::from(message)));
    if let Some(token) = token {
        let value = format!("Bearer {token}").parse().unwrap();
        request.metadata_mut().insert("authorization", value);
    }
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.unwrap();
    let path = path.parse().unwrap();
    match client.streaming(request, path, Plain).await {
        Err(status) => (status.code(), None),
        Ok(answers) => {
            let mut answers = answers.into_inner();
            match answers.message().await {
                Ok(first) => (Code::Ok, first),
                Err(status) => (status.code(), None),
            }
        }
    }
}

#[tokio::test]
async fn nobody_without_a_role_does_anything_and_no_stranger_is_let_in() {
    let mut place = Place::new(&[("m.onnx", "")]);
    let (nobody, entry) = token("nobody", "nothing");
    with_access(&mut place, &format!("{ROLES}[[role]]\nname = \"nothing\"\n{entry}"));
    let daemon = place.start(&World::new()).await;
    let channel = channel(daemon.grpc).await;
    let open = ["ServerLive", "ServerReady"];
    let of_everybody = [
        "ServerMetadata",
        "ModelStatistics",
        "RepositoryIndex",
        "ListModels",
        "ListDevices",
        "ListTraces",
        "GetActivity",
    ];
    let methods = methods();
    assert!(methods.len() >= 30, "{methods:?}");
    for path in &methods {
        let name = path.rsplit('/').next().unwrap();
        let is_open = open.contains(&name);
        let (code, _) = call(&channel, path, None).await;
        assert_eq!(code, if is_open { Code::Ok } else { Code::Unauthenticated }, "{path} for a stranger");

        let (code, first) = call(&channel, path, Some(&nobody)).await;
        if name == "ModelStreamInfer" {
            let answer = ModelStreamInferResponse::decode(first.unwrap()).unwrap();
            assert!(answer.error_message.contains("no role with permission `infer`"), "{answer:?}");
        } else if name == "GetTrace" {
            assert_eq!(code, Code::NotFound, "{path} without a role: as if there were none");
        } else if is_open || of_everybody.contains(&name) {
            assert_eq!(code, Code::Ok, "{path} without a role");
            assert!(!String::from_utf8_lossy(&first.unwrap()).contains("m/1"), "{path} names no model");
        } else {
            assert_eq!(code, Code::PermissionDenied, "{path} without a role");
        }
    }
    assert_eq!(call(&channel, "/ired.v1.ModelService/Nothing", Some(&nobody)).await.0, Code::Unimplemented);
    assert_eq!(call(&channel, "/nothing.Service/Nothing", Some(&nobody)).await.0, Code::Unimplemented);
    daemon.stop().await;
}
