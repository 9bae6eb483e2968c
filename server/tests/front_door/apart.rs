//! Strict tenants: each has a process of its own for each model version.

use ired::config::{Open, RequireSandbox};
use tonic::Code;

use crate::jwt::Provider;
use crate::schedule::{asking, metric, until_waiting};
use crate::scripted::{Place, World};
use crate::security::{ROLES, put, with_access};
use crate::tenants::{JWT, callers, place_with};

#[tokio::test]
async fn strict_tenants_share_no_process_and_no_batch() {
    let batching = "max_batch_size: 8 dynamic_batching { } instance_group { count: 1 }";
    let files = [("m/1/model.onnx", "block resident:400"), ("m/config.pbtxt", batching)];
    let (mut place, tokens) = place_with(&files, &[("a", ""), ("b", "")]);
    place.settings.require_sandbox = RequireSandbox::Strict;
    place.settings.memory_bytes = 1300;
    let world = World::new();
    let daemon = place.start(&world).await;
    let callers = callers(&daemon, &tokens).await;
    let [a, b, nobodys] = &callers[..] else { panic!() };
    assert_eq!(world.seen().launched, 1, "the one that was tried is the default tenant's");
    let mut answers = vec![nobodys.ask(asking("m", 1, 1.0))];
    world.until(|seen| seen.inside == 1).await;
    assert_eq!(world.seen().launched, 1);
    for (caller, value) in [(a, 2.0), (b, 3.0), (a, 4.0), (b, 5.0), (nobodys, 6.0)] {
        answers.push(caller.ask(asking("m", 1, value)));
        until_waiting(&daemon, answers.len() as f64 - 1.0).await;
    }
    let resident = "ired_model_resident_bytes{model=\"m\",version=\"1\"}";
    assert_eq!((world.seen().launched, metric(&daemon, resident).await), (3, Some(1200.0)));
    assert_eq!(metric(&daemon, "ired_memory_in_use_bytes").await, Some(1200.0));
    world.release();
    for answer in answers {
        answer.await.unwrap().unwrap();
    }
    let mut batches = world.seen().ran[1..].to_vec();
    batches.sort_by(|a, b| a.1.total_cmp(&b.1));
    assert_eq!(batches, [(2, 2.0), (2, 3.0), (1, 6.0)], "each tenant's own requests were joined");
    a.infer(asking("m", 1, 1.0)).await.unwrap();
    assert_eq!(world.seen().launched, 3);
    daemon.stop().await;
    assert_eq!(world.seen().shut_down, 3);
}

#[tokio::test]
async fn processes_of_strict_tenants_make_room_for_each_other() {
    let files = [("m.onnx", "resident:400")];
    let (mut place, tokens) = place_with(&files, &[("a", ""), ("b", "")]);
    place.settings.require_sandbox = RequireSandbox::Strict;
    place.settings.memory_bytes = 1000;
    let world = World::new();
    let daemon = place.start(&world).await;
    let callers = callers(&daemon, &tokens).await;
    for at in [0, 1, 0, 2, 1, 1] {
        callers[at].infer(asking("m", 1, 1.0)).await.unwrap();
    }
    let seen = world.seen();
    assert_eq!(seen.launched - seen.shut_down, 2, "{seen:?}");
    assert_eq!(metric(&daemon, "ired_memory_in_use_bytes").await, Some(800.0));
    daemon.stop().await;
    assert_eq!(world.seen().launched, world.seen().shut_down);
}

#[tokio::test]
async fn without_strict_all_tenants_share_one_process() {
    let (place, tokens) = place_with(&[("m.onnx", "")], &[("a", ""), ("b", "")]);
    let world = World::new();
    let daemon = place.start(&world).await;
    for caller in callers(&daemon, &tokens).await {
        caller.infer(asking("m", 1, 1.0)).await.unwrap();
    }
    assert_eq!(world.seen().launched, 1);
    daemon.stop().await;
}

#[tokio::test]
async fn processes_of_strict_tenants_are_bounded_in_number() {
    let mut place = Place::new(&[("m.onnx", ""), ("model.onnx", "block")]);
    with_access(&mut place, &format!("{ROLES}{JWT}"));
    place.settings.require_sandbox = RequireSandbox::Strict;
    place.settings.auth.open.push(Open::Metrics);
    let provider = Provider::new();
    put(&place.dir.path().join("jwks.json"), &provider.jwks);
    let world = World::new();
    let daemon = place.start(&world).await;
    let expires = jsonwebtoken::get_current_timestamp() + 600;
    let strangers = (0..66).map(|at| {
        let claims = serde_json::json!({
            "iss": "i", "aud": "a", "sub": "s", "exp": expires, "roles": "reader", "org": format!("org {at}"),
        });
        provider.sign(1, &claims)
    });
    let strangers = callers(&daemon, &strangers.collect::<Vec<_>>()).await;
    // Two models, each with the process that was tried.
    let alive = || world.seen().launched - world.seen().shut_down - 2;
    for (at, caller) in strangers.iter().enumerate() {
        caller.infer(asking("m", 1, 1.0)).await.unwrap();
        assert_eq!(alive(), (at as u64 + 1).min(64));
    }
    assert_eq!(metric(&daemon, "ired_model_evictions_total").await, Some(2.0));
    let (last, first) = strangers.split_last().unwrap();
    let answers: Vec<_> = first[..64].iter().map(|caller| caller.ask(asking("model", 1, 1.0))).collect();
    world.until(|seen| seen.launched - seen.shut_down == 64 + 64 + 2).await;
    let refused = last.infer(asking("model", 1, 1.0)).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert_eq!(refused.message(), "model `model` has 64 processes of tenants already, all at work");
    world.release();
    for answer in answers {
        answer.await.unwrap().unwrap();
    }
    last.infer(asking("model", 1, 1.0)).await.unwrap();
    daemon.stop().await;
    assert_eq!(world.seen().launched, world.seen().shut_down);
}
