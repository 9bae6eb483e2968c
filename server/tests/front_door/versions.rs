//! Which versions answer, under which names, and how one takes another's place.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ired_client::{Client, InferRequest, Version};
use tonic::Code;

use crate::scripted::{Place, World, client, http, request};

async fn answering(client: &Client, version: Option<&str>) -> Result<String, ired_client::ClientError> {
    let version: Option<Version> = version.map(|text| text.parse().unwrap());
    Ok(client.infer(InferRequest { version, ..request("m") }).await?.version)
}

async fn versions(client: &Client) -> Vec<String> {
    client.model_metadata("m", None).await.unwrap().versions
}

#[tokio::test]
async fn a_label_stands_for_a_version_and_keeps_it() {
    let (place, world) = (Place::new(&[("m/1/model.onnx", "one")]), World::new());
    let daemon = place.start(&world).await;
    let first = client(&daemon).await;
    assert_eq!(first.set_label("m", "stable", 1).await.unwrap(), None);
    place.write("m/2/model.onnx", "two");
    let refused = first.set_label("m", "canary", 2).await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::NotFound), "{refused}");
    first.load("m").await.unwrap();
    assert_eq!(versions(&first).await, ["1", "2"], "the labelled one stays beside the newest");
    assert_eq!(first.set_label("m", "canary", 2).await.unwrap(), None);
    assert_eq!(answering(&first, None).await.unwrap(), "2");
    assert_eq!(answering(&first, Some("stable")).await.unwrap(), "1");
    assert_eq!(answering(&first, Some("canary")).await.unwrap(), "2");
    let body = br#"{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":[1,2,3]}]}"#;
    let reply = http(daemon.http, "POST", "/v2/models/m/versions/stable/infer", &[], body).await;
    assert_eq!(reply.json()["model_version"], "1", "{reply:?}");
    let reply = http(daemon.http, "GET", "/v2/models/m/versions/stable/ready", &[], b"").await;
    assert_eq!(reply.status, 200);
    let listed = first.models().await.unwrap();
    assert_eq!(listed.iter().map(|model| model.labels.join(",")).collect::<Vec<_>>(), ["stable", "canary"]);
    let viewed = http(daemon.http, "GET", "/v1/models", &[], b"").await.json();
    assert_eq!(
        (&viewed["models"][0]["labels"][0], &viewed["models"][1]["labels"][0]),
        (&"stable".into(), &"canary".into())
    );
    let unknown = answering(&first, Some("beta")).await.unwrap_err();
    assert!(unknown.to_string().contains("has no version beta; it has 1, 2, canary, stable"), "{unknown}");

    // What cannot be loaded leaves the label where it is; so does a restart.
    place.write("m/3/model.onnx", "unsupported");
    assert!(first.load("m").await.is_err());
    let refused = first.set_label("m", "stable", 3).await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::FailedPrecondition));
    assert!(refused.to_string().contains("label `stable` of `m` stays where it is"), "{refused}");
    assert!(refused.to_string().contains("version 3 is not ready"), "{refused}");
    daemon.stop().await;
    std::fs::remove_dir_all(place.path("m/3")).unwrap();
    let daemon = place.start(&world).await;
    let client = client(&daemon).await;
    assert_eq!(answering(&client, Some("stable")).await.unwrap(), "1");

    // Moving it lets the old version go.
    assert_eq!(client.set_label("m", "stable", 2).await.unwrap(), Some(1));
    assert_eq!(versions(&client).await, ["2"]);
    assert_eq!(answering(&client, Some("stable")).await.unwrap(), "2");
    assert_eq!(client.delete_label("m", "stable").await.unwrap(), 2);
    assert_eq!(client.delete_label("m", "stable").await.unwrap_err().code(), Some(Code::NotFound));
    assert_eq!(answering(&client, Some("stable")).await.unwrap_err().code(), Some(Code::NotFound));
    for label in ["", "2", "2b", "a/b", "..", &"x".repeat(65)] {
        let refused = client.set_label("m", label, 2).await.unwrap_err();
        assert_eq!(refused.code(), Some(Code::InvalidArgument), "{label:?}: {refused}");
    }
    assert_eq!(client.set_label("nobody", "stable", 2).await.unwrap_err().code(), Some(Code::NotFound));
    daemon.stop().await;
}

#[tokio::test]
async fn an_upload_with_a_label_is_not_deleted_alone() {
    let (place, world) = (Place::new(&[]), World::new());
    let daemon = place.start(&world).await;
    let client = client(&daemon).await;
    for script in ["one", "two"] {
        let source = place.dir.path().join("pushed");
        std::fs::write(&source, script).unwrap();
        let files = vec![ired_client::UploadFile { path: "model.onnx".to_owned(), source }];
        let upload = ired_client::Upload { name: "m".to_owned(), version: None, files };
        client.upload(upload, |_| {}).await.unwrap();
        client.load("m").await.unwrap();
        client.set_label("m", script, if script == "one" { 1 } else { 2 }).await.unwrap();
    }
    let refused = client.delete("m", Some(1)).await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::FailedPrecondition));
    assert!(refused.to_string().contains("version 1 of `m` has the label `one`"), "{refused}");
    assert_eq!(answering(&client, Some("one")).await.unwrap(), "1");
    client.delete_label("m", "one").await.unwrap();
    assert_eq!(client.delete("m", Some(1)).await.unwrap(), [1]);
    assert_eq!(client.delete("m", None).await.unwrap(), [2]);
    assert_eq!(std::fs::read_dir(place.settings.data_dir.join("labels")).unwrap().count(), 0);
    daemon.stop().await;
}

#[tokio::test]
async fn the_configuration_says_which_versions_answer() {
    let model = [("m/1/model.onnx", "one"), ("m/2/model.onnx", "two"), ("m/3/model.onnx", "three")];
    let (place, world) = (Place::new(&model), World::new());
    place.write("m/config.pbtxt", "version_policy { specific { versions: [1, 3] } }");
    let daemon = place.start(&world).await;
    let client = client(&daemon).await;
    assert_eq!(versions(&client).await, ["1", "3"]);
    place.write("m/config.pbtxt", "version_policy { latest { num_versions: 2 } }");
    client.load("m").await.unwrap();
    assert_eq!(versions(&client).await, ["2", "3"]);
    place.write("m/config.pbtxt", "version_policy { all { } }");
    client.load("m").await.unwrap();
    assert_eq!(versions(&client).await, ["1", "2", "3"]);
    let policy = http(daemon.http, "GET", "/v2/models/m/config", &[], b"").await.json();
    assert!(policy["version_policy"]["all"].is_object(), "{policy}");

    place.write("m/config.pbtxt", "version_policy { specific { versions: [2, 7] } }");
    let missing = client.load("m").await.unwrap_err();
    assert!(missing.to_string().contains("`m` has no version 7; it has 1, 2, 3"), "{missing}");
    assert_eq!(versions(&client).await, ["2"], "what is there answers all the same");

    let labels = "parameters { key: 'ired.label.stable' value { string_value: '2' } }\n\
                  parameters { key: 'ired.label.canary' value { string_value: '3' } }";
    place.write("m/config.pbtxt", labels);
    client.load("m").await.unwrap();
    assert_eq!(versions(&client).await, ["2", "3"]);
    assert_eq!(answering(&client, Some("stable")).await.unwrap(), "2");
    let refused = client.set_label("m", "stable", 3).await.unwrap_err();
    assert!(refused.to_string().contains("label `stable` of `m` is set by its configuration"), "{refused}");
    place.write("m/config.pbtxt", &labels.replace("'2'", "'9'"));
    let refused = client.load("m").await.unwrap_err();
    assert!(
        refused.to_string().contains("its configuration says so, but version 9 is not ready"),
        "{refused}"
    );
    assert_eq!(answering(&client, Some("stable")).await.unwrap(), "2");
    place.write("m/config.pbtxt", &labels.replace("'2'", "'two'"));
    let refused = client.load("m").await.unwrap_err();
    assert!(refused.to_string().contains("`ired.label.stable` is `two`, not a version"), "{refused}");
    daemon.stop().await;
}

#[tokio::test]
async fn the_repository_is_followed() {
    let (mut place, world) = (Place::new(&[("kept.onnx", "kept")]), World::new());
    place.settings.repository_poll_s = 1;
    let daemon = place.start(&world).await;
    let client = client(&daemon).await;
    place.write("bad.onnx", "unsupported");
    place.write("m/1/model.onnx", "one");
    let until = async |wanted: Option<&str>| {
        loop {
            match (client.infer(request("m")).await, wanted) {
                (Ok(answer), Some(wanted)) if answer.version == wanted => break,
                (Err(error), None) if error.code() == Some(Code::NotFound) => break,
                _ => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
            }
        }
    };
    until(Some("1")).await;
    place.write("m/2/model.onnx", "two");
    until(Some("2")).await;
    std::fs::remove_dir_all(place.path("m/2")).unwrap();
    until(Some("1")).await;
    std::fs::remove_dir_all(place.path("m")).unwrap();
    until(None).await;
    client.infer(request("kept")).await.unwrap();
    let bad = client.models().await.unwrap().into_iter().find(|model| model.name == "bad").unwrap();
    assert!(bad.reason.contains("operator of `n1` is not implemented"), "{}", bad.reason);
    let compiled = world.seen().compiles_started;
    place.write("m/1/model.onnx", "one again");
    until(Some("1")).await;
    assert_eq!(world.seen().compiles_started, compiled + 1, "the bad one is not tried until it changes");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reloads_under_load_drop_nothing_and_leave_nothing() {
    const RELOADS: u64 = 100;
    let (place, world) = (Place::new(&[("m.onnx", "times:2 resident:1000")]), World::new());
    let daemon = place.start(&world).await;
    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let asking: Vec<_> = (0..8)
        .map(|_| {
            let (stop, answered, address) = (stop.clone(), answered.clone(), daemon.grpc.to_string());
            tokio::spawn(async move {
                let client = Client::connect(&address).await.unwrap();
                while !stop.load(Ordering::Relaxed) {
                    let answer = client.infer(request("m")).await.expect("a reload drops nothing");
                    let first = f32::from_le_bytes(*answer.outputs[0].data.first_chunk().unwrap());
                    assert!(first == 0.5 || first == 0.75, "{first}");
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let client = client(&daemon).await;
    for reload in 0..RELOADS {
        let script = if reload % 2 == 0 { "times:3 resident:1000" } else { "times:2 resident:1000" };
        // As a deployment does it: there is no moment without a model.
        std::fs::write(place.path("next"), script).unwrap();
        std::fs::rename(place.path("next"), place.path("m.onnx")).unwrap();
        client.load("m").await.unwrap();
        let so_far = answered.load(Ordering::Relaxed);
        while answered.load(Ordering::Relaxed) == so_far {
            assert!(!asking.iter().any(|asking| asking.is_finished()), "somebody was not answered");
            tokio::task::yield_now().await;
        }
    }
    stop.store(true, Ordering::Relaxed);
    for asking in asking {
        asking.await.unwrap();
    }
    let seen = world.seen();
    assert_eq!(seen.launched, RELOADS + 1);
    assert_eq!(seen.shut_down, RELOADS, "one is left");
    assert_eq!(seen.compiles_started, 2);
    assert_eq!(daemon.app.registry.residents.ledger().usage().1, 1000);
    daemon.stop().await;
}
