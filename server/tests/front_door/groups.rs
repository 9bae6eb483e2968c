//! Device groups: a model has a process on the cores of each that its configuration names.

use std::collections::BTreeMap;

use ired::config::RequireSandbox;
use ired_proto::inference::ModelConfigRequest;
use serde_json::json;

use crate::schedule::{Answering, Grpc, asking, grpc, metric, until_waiting};
use crate::scripted::{Place, World, client, http, request};
use crate::tenants::{callers, place_with};

/// Two processes with three places, the second with two of them.
const TWO: &str = "instance_group [ { count: 1 host_policy: 'numa0' }, { count: 2 host_policy: 'numa1' } ]";

fn with_groups(mut place: Place) -> Place {
    let groups = [("numa0", "0-3"), ("numa1", "4-7")];
    let groups = groups.map(|(name, cores)| (name.to_owned(), cores.parse().unwrap()));
    place.settings.device_groups = BTreeMap::from(groups);
    place
}

fn ask(grpc: &Grpc, value: f32) -> Answering {
    let mut grpc = grpc.clone();
    tokio::spawn(async move { Ok(grpc.model_infer(asking("m", 1, value)).await?.into_inner()) })
}

#[tokio::test]
async fn requests_go_to_the_process_with_a_free_place() {
    let files = [("m/1/model.onnx", "block resident:400 private:300"), ("m/config.pbtxt", TWO)];
    let (place, world) = (with_groups(Place::new(&files)), World::new());
    let daemon = place.start(&world).await;
    assert_eq!(world.seen().launched_on, ["0-3", "4-7"]);
    let resident = "ired_model_resident_bytes{model=\"m\",version=\"1\"}";
    assert_eq!(metric(&daemon, resident).await, Some(700.0), "what is mapped from the file is there once");
    assert_eq!(metric(&daemon, "ired_memory_in_use_bytes").await, Some(700.0));

    let grpc = grpc(&daemon).await;
    let mut answers = Vec::new();
    for at in 0..5u8 {
        answers.push(ask(&grpc, f32::from(at)));
        world.until(|seen| seen.inside == u64::from(at + 1).min(3)).await;
        until_waiting(&daemon, f64::from((at + 1).saturating_sub(3))).await;
    }
    let mut ran_on = world.seen().ran_on;
    ran_on.sort_unstable();
    assert_eq!(ran_on, ["0-3", "4-7", "4-7"]);
    world.release();
    for answer in answers {
        answer.await.unwrap().unwrap();
    }

    let asked = ModelConfigRequest { name: "m".to_owned(), version: String::new() };
    let config = grpc.clone().model_config(asked).await.unwrap().into_inner().config.unwrap();
    let groups: Vec<_> = config
        .instance_group
        .iter()
        .map(|group| (group.name.as_str(), group.count, group.host_policy.as_str()))
        .collect();
    assert_eq!(groups, [("m_0", 1, "numa0"), ("m_1", 2, "numa1")]);
    let listed = http(daemon.http, "GET", "/v1/models", &[], b"").await.json();
    let process = |group, count| json!({ "device_group": group, "count": count, "pid": 8, "restarts": 0 });
    assert_eq!(listed["models"][0]["module"]["processes"], json!([process("numa0", 1), process("numa1", 2)]));
    let devices = http(daemon.http, "GET", "/v1/devices", &[], b"").await.json();
    let group = |name, cores| json!({ "name": name, "cores": cores });
    assert_eq!(devices["devices"][0]["groups"], json!([group("numa0", "0-3"), group("numa1", "4-7")]));
    daemon.stop().await;
    assert_eq!(world.seen().shut_down, 2);
}

#[tokio::test]
async fn each_process_is_warmed_up() {
    let warm_up = "max_batch_size: 8 model_warmup { name: 'w' batch_size: 2 count: 2 \
                   inputs { key: 'x' value { data_type: TYPE_FP32 dims: 3 zero_data: true } } } ";
    let files = [("m/1/model.onnx", "one"), ("m/config.pbtxt", &format!("{warm_up}{TWO}"))];
    let (place, world) = (with_groups(Place::new(&files)), World::new());
    let daemon = place.start(&world).await;
    let mut ran_on = world.seen().ran_on;
    ran_on.sort_unstable();
    assert_eq!(ran_on, ["0-3", "0-3", "4-7", "4-7"]);
    daemon.stop().await;
}

#[tokio::test]
async fn an_unknown_group_is_told_with_those_that_there_are() {
    let files = [("m/1/model.onnx", "one"), ("m/config.pbtxt", "instance_group { host_policy: 'numa7' }")];
    let (mut place, world) = (with_groups(Place::new(&files)), World::new());
    place.settings.strict_readiness = false;
    let daemon = place.start(&world).await;
    assert_eq!(world.seen().launched, 0);
    let client = client(&daemon).await;
    let error = client.load("m").await.unwrap_err().to_string();
    let told = "`instance_group.host_policy` is `numa7`; the settings have device groups `numa0`, `numa1`";
    assert!(error.contains(told), "{error}");
    place.write("m/config.pbtxt", "instance_group [ { host_policy: 'numa1' }, { count: 2 } ]");
    client.load("m").await.unwrap();
    assert_eq!(world.seen().launched_on, ["4-7", ""], "what names no group has all cores");
    client.infer(request("m")).await.unwrap();
    daemon.stop().await;
}

#[tokio::test]
async fn processes_of_a_model_make_room_and_come_back_together() {
    let files = [
        ("m/1/model.onnx", "resident:400 private:300"),
        ("m/config.pbtxt", TWO),
        ("other.onnx", "resident:400"),
    ];
    let (mut place, world) = (with_groups(Place::new(&files)), World::new());
    place.settings.memory_bytes = 1000;
    let daemon = place.start(&world).await;
    let client = client(&daemon).await;
    for (model, in_use) in [("m", 700.0), ("other", 400.0), ("m", 700.0)] {
        client.infer(request(model)).await.unwrap();
        assert_eq!(metric(&daemon, "ired_memory_in_use_bytes").await, Some(in_use), "{model}");
    }
    let seen = world.seen();
    assert_eq!(seen.launched - seen.shut_down, 2);
    assert!(seen.launched_on.ends_with(&["0-3".to_owned(), "4-7".to_owned()]), "{seen:?}");
    daemon.stop().await;
}

#[tokio::test]
async fn strict_tenants_have_processes_of_their_own_in_every_group() {
    let files = [("m/1/model.onnx", ""), ("m/config.pbtxt", TWO)];
    let (place, tokens) = place_with(&files, &[("a", ""), ("b", "")]);
    let mut place = with_groups(place);
    place.settings.require_sandbox = RequireSandbox::Strict;
    let world = World::new();
    let daemon = place.start(&world).await;
    assert_eq!(world.seen().launched, 2);
    for (at, caller) in callers(&daemon, &tokens).await[..2].iter().enumerate() {
        caller.infer(asking("m", 1, 1.0)).await.unwrap();
        assert_eq!(world.seen().launched_on[2 * at + 2..], ["0-3", "4-7"]);
    }
    daemon.stop().await;
    assert_eq!((world.seen().launched, world.seen().shut_down), (6, 6));
}
