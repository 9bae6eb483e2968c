//! `ired.v1` over REST: uploads, compilation line by line, deletion, what there is and how it does.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::scripted::{Place, Reply, World, gzip, http, request};
use crate::security::{ROLES, token, with_access};

/// The events of a compilation.
fn events(reply: &Reply) -> Vec<Value> {
    assert_eq!(
        (reply.status, reply.header("content-type")),
        (200, Some("application/x-ndjson")),
        "{reply:?}"
    );
    let text = String::from_utf8_lossy(&reply.body);
    text.lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test]
async fn a_model_goes_up_is_compiled_loaded_and_deleted() {
    let (place, world) = (Place::new(&[]), World::new());
    let daemon = place.start(&world).await;
    let send = async |method: &str, path: &str, body: &[u8]| http(daemon.http, method, path, &[], body).await;

    let stored = send("POST", "/v1/models/m", b"a script").await.json();
    assert_eq!(
        (&stored["version"], &stored["bytes"], &stored["unchanged"]),
        (&json!("1"), &json!(8), &json!(false))
    );
    assert_eq!(send("POST", "/v1/models/m", b"a script").await.json()["unchanged"], true);
    assert_eq!(send("POST", "/v1/models/m/versions/7", b"another").await.json()["version"], "7");
    let again = send("POST", "/v1/models/m/versions/7", b"a third").await;
    assert_eq!((again.status, again.error().contains("exists already")), (409, true));

    let compiled = events(&send("POST", "/v1/models/m/compile", b"").await);
    let names: Vec<_> = compiled.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(names, ["started", "progress", "done"]);
    assert_eq!((&compiled[1]["phase"], &compiled[1]["total"]), (&json!("graph"), &json!(2)));
    assert_eq!((&compiled[2]["cached"], &compiled[2]["phases"][0]["wall_us"]), (&json!(false), &json!(5)));
    let other = br#"{"target": {"triple": "x86_64-linux", "features": ["+avx2"]}}"#;
    assert_eq!(events(&send("POST", "/v1/models/m/compile", other).await)[2]["cached"], false);

    assert_eq!(send("POST", "/v2/repository/models/m/load", b"").await.status, 200);
    crate::scripted::client(&daemon).await.infer(request("m")).await.unwrap();
    let listed = send("GET", "/v1/models", b"").await.json();
    let [old, new] = listed["models"].as_array().unwrap().as_slice() else { panic!("{listed}") };
    assert_eq!(
        (&old["state"], &old["module"], &old["reason"]),
        (&json!("UNAVAILABLE"), &json!(null), &json!("not loaded"))
    );
    assert_eq!(
        (&new["state"], &new["source"], &new["version"]),
        (&json!("READY"), &json!("upload"), &json!("7"))
    );
    let requests = json!({ "answered": 1, "failed": 0, "inside": 0, "waiting": 0, "expected_wait_ns": 0 });
    assert_eq!(new["requests"], requests);
    assert_eq!((&new["module"]["worker_pid"], &new["module"]["triple"]), (&json!(8), &json!("scripted")));
    let devices = send("GET", "/v1/devices", b"").await.json();
    assert_eq!(devices["devices"][0]["models"], json!(["m/7"]));
    let status = send("GET", "/v1/status", b"").await.json();
    assert_eq!((&status["cache"]["modules"], &status["compile"]["slots"]), (&json!(2), &json!(2)));

    assert_eq!(
        send("DELETE", "/v1/models/m/versions/1", b"").await.json(),
        json!({ "deleted_versions": ["1"] })
    );
    assert_eq!(send("DELETE", "/v1/models/m", b"").await.json(), json!({ "deleted_versions": ["7"] }));
    assert_eq!(send("DELETE", "/v1/models/m", b"").await.status, 404);
    daemon.stop().await;
}

#[tokio::test]
async fn latencies_are_told_by_step() {
    let (place, world) = (Place::new(&[("m.onnx", "takes:2")]), World::new());
    let daemon = place.start(&world).await;
    let client = crate::scripted::client(&daemon).await;
    for _ in 0..3 {
        client.infer(request("m")).await.unwrap();
    }
    let told = http(daemon.http, "GET", "/v1/models/m/versions/1/latency", &[], b"").await.json();
    assert_eq!(told, http(daemon.http, "GET", "/v1/models/m/latency", &[], b"").await.json());
    let steps = told["steps"].as_array().unwrap();
    let names: Vec<_> = steps.iter().map(|step| step["step"].as_str().unwrap()).collect();
    assert_eq!(names, ["request", "queue", "input", "infer", "output"]);
    for step in steps {
        let buckets = step["buckets"].as_array().unwrap();
        let bounds: Vec<u64> = buckets.iter().filter_map(|bucket| bucket["up_to_ns"].as_u64()).collect();
        assert!(bounds.is_sorted() && bounds[0] == 20_000 && bounds.len() + 1 == buckets.len(), "{bounds:?}");
        let counts: Vec<u64> = buckets.iter().filter_map(|bucket| bucket["count"].as_u64()).collect();
        assert_eq!((counts.iter().sum::<u64>(), step["count"].as_u64()), (3, Some(3)));
    }
    http(daemon.http, "POST", "/v2/repository/models/m/unload", &[], b"").await;
    assert_eq!(
        told,
        http(daemon.http, "GET", "/v1/models/m/latency", &[], b"").await.json(),
        "they are kept"
    );
    for nothing in ["/v1/models/m/versions/2/latency", "/v1/models/n/latency"] {
        assert_eq!(http(daemon.http, "GET", nothing, &[], b"").await.status, 404);
    }
    // The model takes two milliseconds and says so.
    let infer = steps[3]["buckets"].as_array().unwrap();
    let two = infer.iter().find(|bucket| bucket["up_to_ns"] == 2_000_000).unwrap();
    assert_eq!((&two["count"], &steps[3]["sum_ns"]), (&json!(3), &json!(6_000_000)));
    daemon.stop().await;
}

#[tokio::test]
async fn a_failed_compilation_ends_with_every_problem() {
    let models = [("m.onnx", "unsupported"), ("c.onnx", "crash-always")];
    let (place, world) = (Place::new(&models), World::new());
    let daemon = place.start(&world).await;
    let told = events(&http(daemon.http, "POST", "/v1/models/m/versions/1/compile", &[], b"{}").await);
    let failed = told.last().unwrap();
    assert_eq!((&failed["event"], &failed["kind"]), (&json!("failed"), &json!("unsupported")));
    let found = failed["diagnostics"].as_array().unwrap();
    assert_eq!(
        (found.len(), &found[1]["location"], &found[1]["severity"]),
        (2, &json!("n2"), &json!("error"))
    );
    assert!(failed["error"].as_str().unwrap().contains("operator of `n1` is not implemented"));

    let told = events(&http(daemon.http, "POST", "/v1/models/c/compile", &[], b"").await);
    assert_eq!(
        (&told.last().unwrap()["kind"], &told.last().unwrap()["diagnostics"]),
        (&json!("crashed"), &json!([]))
    );
    daemon.stop().await;
}

#[tokio::test]
async fn what_is_no_upload_is_refused_and_leaves_nothing() {
    let mut place = Place::new(&[("here.onnx", "")]);
    (place.settings.upload_bytes, place.settings.upload_idle_s) = (1000, 1);
    let world = World::new();
    let daemon = place.start(&world).await;
    let packed = gzip(b"script");
    for (path, headers, body, status, words) in [
        ("/v1/models/a b", &[][..], &b"x"[..], 400, ""),
        ("/v1/models/%2e%2e", &[], b"x", 400, "is not a model name"),
        ("/v1/models/m/versions/0", &[], b"x", 400, "`0` is not a version"),
        ("/v1/models/m/versions/one", &[], b"x", 400, "`one` is not a version"),
        ("/v1/models/m?file=../x.onnx", &[], b"x", 400, "is not the name of a model's file"),
        ("/v1/models/m?file=%ff", &[], b"x", 400, "is not the name of a model's file"),
        ("/v1/models/m", &[], b"", 400, "the body is empty"),
        ("/v1/models/m", &[], &[0; 1001], 413, "1001 bytes; at most 1000"),
        ("/v1/models/m", &[("content-encoding", "gzip")], &packed, 501, "sent plain"),
        ("/v1/models/m", &[("content-type", "multipart/form-data; boundary=b")], b"x", 400, "several parts"),
        ("/v1/models/here/versions/1", &[], b"other", 409, "exists already"),
    ] {
        let reply = http(daemon.http, "POST", &path.replace(' ', "%20"), headers, body).await;
        assert_eq!(reply.status, status, "{path}: {reply:?}");
        assert!(reply.error().contains(words), "{path}: {}", reply.error());
    }
    let reply = http(daemon.http, "DELETE", "/v1/models/here", &[], b"").await;
    assert_eq!((reply.status, reply.error().contains("model repository directory")), (409, true));

    // One that breaks off, one that goes on for too long, one that pauses for too long.
    let mut stream = TcpStream::connect(daemon.http).await.unwrap();
    stream
        .write_all(b"POST /v1/models/m HTTP/1.1\r\nhost: t\r\ncontent-length: 100\r\n\r\nhalf")
        .await
        .unwrap();
    drop(stream);
    let mut stream = TcpStream::connect(daemon.http).await.unwrap();
    let chunks = format!("258\r\n{}\r\n", "x".repeat(600)).repeat(2);
    let head = "POST /v1/models/m HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(format!("{head}{chunks}0\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
    let mut stream = TcpStream::connect(daemon.http).await.unwrap();
    stream
        .write_all(b"POST /v1/models/m HTTP/1.1\r\nhost: t\r\ncontent-length: 100\r\n\r\nhalf")
        .await
        .unwrap();
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 408");
    let pending = place.settings.data_dir.join("uploads/content/pending");
    let files = async || std::fs::read_dir(&pending).unwrap().count();
    for _ in 0..1000 {
        if files().await == 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(files().await, 0);
    let listed = http(daemon.http, "GET", "/v1/models", &[], b"").await.json();
    assert_eq!(listed["models"].as_array().unwrap().len(), 1);
    daemon.stop().await;
}

#[tokio::test]
async fn a_compilation_whose_events_nobody_reads_is_given_up() {
    let (place, world) = (Place::new(&[]), World::new());
    let daemon = place.start(&world).await;
    http(daemon.http, "POST", "/v1/models/m", &[], b"hold").await;
    let mut stream = TcpStream::connect(daemon.http).await.unwrap();
    stream
        .write_all(b"POST /v1/models/m/compile HTTP/1.1\r\nhost: t\r\ncontent-length: 0\r\n\r\n")
        .await
        .unwrap();
    world.until(|seen| seen.compiles_started == 1).await;
    // The first events are there before the compilation ends.
    let mut text = Vec::new();
    while !String::from_utf8_lossy(&text).contains("progress") {
        assert!(stream.read_buf(&mut text).await.unwrap() > 0);
    }
    drop(stream);
    world.until(|seen| seen.compiles_dropped == 1).await;
    daemon.stop().await;
}

#[tokio::test]
async fn roles_decide_here_as_elsewhere() {
    let mut place = Place::new(&[("m1.onnx", ""), ("other.onnx", "")]);
    let people = ["reader", "deployer", "monitor"].map(|role| (role, token(role, role)));
    let entries: String = people.iter().map(|(_, (_, entry))| entry.as_str()).collect();
    with_access(&mut place, &format!("{ROLES}{entries}"));
    let world = World::new();
    let daemon = place.start(&world).await;
    let call = async |role: &str, method: &str, path: &str| {
        let (_, (token, _)) = people.iter().find(|(known, _)| *known == role).unwrap();
        http(daemon.http, method, path, &[("authorization", &format!("Bearer {token}"))], b"{}").await
    };
    let names = |reply: Reply| {
        let models = reply.json();
        models["models"]
            .as_array()
            .unwrap()
            .iter()
            .map(|m| m["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(call("reader", "GET", "/v1/models").await), ["m1"]);
    assert_eq!(names(call("monitor", "GET", "/v1/models").await), ["m1", "other"]);
    assert_eq!(call("reader", "GET", "/v1/devices").await.json()["devices"][0]["models"], json!(["m1/1"]));
    for (role, method, path, status) in [
        ("reader", "GET", "/v1/status", 403),
        ("monitor", "GET", "/v1/status", 200),
        ("reader", "GET", "/v1/models/m1/latency", 200),
        ("reader", "GET", "/v1/models/other/latency", 403),
        ("reader", "POST", "/v1/models/m1", 403),
        ("reader", "DELETE", "/v1/models/m1", 403),
        ("monitor", "POST", "/v1/models/m1/compile", 403),
        ("deployer", "POST", "/v1/models/m1/profile", 403),
        ("deployer", "POST", "/v1/models/m1/compile", 200),
        ("deployer", "POST", "/v1/models/other/versions/2", 403),
        ("deployer", "POST", "/v1/models/m1/versions/2", 200),
        ("deployer", "DELETE", "/v1/models/m1/versions/2", 200),
    ] {
        assert_eq!(call(role, method, path).await.status, status, "{role} {method} {path}");
    }
    assert_eq!(http(daemon.http, "GET", "/v1/models", &[], b"").await.status, 401);
    daemon.stop().await;
}
