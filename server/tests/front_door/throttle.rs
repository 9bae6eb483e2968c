//! Tokens that are not accepted: how many an address has, and what goes on for those who share it.

use std::time::Duration;

use ired::config::AuditSettings;
use ired_client::Client;
use tonic::{Code, Request};
use tonic_types::StatusExt;

use crate::jwt::Provider;
use crate::schedule::{asking, grpc, metric};
use crate::scripted::{Place, World, http, request};
use crate::security::{ROLES, client, put, token, with_access};

async fn status(daemon: &ired::Daemon, token: &str) -> u16 {
    let bearer = format!("Bearer {token}");
    http(daemon.http, "GET", "/v2/models/m", &[("Authorization", &bearer)], b"").await.status
}

#[tokio::test]
async fn an_address_with_too_many_bad_tokens_is_refused_and_good_ones_go_on() {
    let mut place = Place::new(&[("m.onnx", "")]);
    let (good, entry) = token("somebody", "reader");
    let jwt = "[jwt]\nkeys = \"jwks.json\"\nissuer = \"i\"\naudience = \"a\"\nleeway_s = 0\n";
    with_access(&mut place, &format!("{ROLES}{entry}{jwt}"));
    place.settings.auth.failures = 3;
    place.settings.auth.failures_window_s = 3600;
    place.settings.auth.open.push(ired::config::Open::Metrics);
    let log = place.dir.path().join("audit.log");
    place.settings.audit = AuditSettings { file: Some(log.clone()), ..AuditSettings::default() };
    let provider = Provider::new();
    put(&place.dir.path().join("jwks.json"), &provider.jwks);
    let daemon = place.start(&World::new()).await;
    let expires = jsonwebtoken::get_current_timestamp() + 600;
    let signed = |subject: &str| {
        provider.sign(
            1,
            &serde_json::json!({"iss": "i", "aud": "a", "sub": subject, "exp": expires, "roles": "reader"}),
        )
    };
    let (verified, new) = (signed("eva"), signed("adam"));
    assert_eq!(status(&daemon, &verified).await, 200);

    let (unknown, _) = token("nobody", "reader");
    let wrong = format!("{}{}", &good[..good.len() - 1], if good.ends_with('0') { '1' } else { '0' });
    // Those without any are no attempts.
    for _ in 0..5 {
        assert_eq!(http(daemon.http, "GET", "/v2/models/m", &[], b"").await.status, 401);
    }
    for bad in [unknown.as_str(), &wrong, "x.y.z"] {
        assert_eq!(status(&daemon, bad).await, 401);
    }
    for bad in [unknown.as_str(), &wrong, "x.y.z", &Provider::new().sign(1, &serde_json::json!({}))] {
        let bearer = format!("Bearer {bad}");
        let reply = http(daemon.http, "GET", "/v2/models/m", &[("Authorization", &bearer)], b"").await;
        assert_eq!(reply.status, 429, "{reply:?}");
        let text = "3 tokens from this address were not accepted within 3600 s; none is looked at for ";
        assert!(reply.error().starts_with(text), "{reply:?}");
        let after: u64 = reply.header("retry-after").unwrap().parse().unwrap();
        assert!((3500..=3600).contains(&after), "{reply:?}");
        let mut asked = Request::new(asking("m", 1, 1.0));
        asked.metadata_mut().insert("authorization", bearer.parse().unwrap());
        let refused = grpc(&daemon).await.model_infer(asked).await.unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        let hint = refused.get_details_retry_info().unwrap().retry_delay.unwrap();
        assert!(hint > Duration::from_secs(3500), "{hint:?}");
    }
    // Whoever shares the address is not locked out by somebody else's mistakes.
    for _ in 0..3 {
        client(&daemon, &good).await.infer(request("m")).await.unwrap();
        client(&daemon, &verified).await.infer(request("m")).await.unwrap();
    }
    // But for one thing: a signature that was never checked waits.
    assert_eq!(status(&daemon, &new).await, 429);
    // What needs no token asks for none.
    assert!(Client::connect(&daemon.grpc.to_string()).await.unwrap().ready().await.unwrap());
    assert_eq!(http(daemon.http, "GET", "/v2/models/m", &[], b"").await.status, 401);
    assert_eq!(metric(&daemon, "ired_authentication_failures_total").await, Some(3.0));
    assert_eq!(metric(&daemon, "ired_authentication_throttled_total").await, Some(9.0));
    daemon.stop().await;

    let log = std::fs::read_to_string(log).unwrap();
    let outcomes: Vec<serde_json::Value> = log
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["outcome"].take())
        .collect();
    let without_any = outcomes.iter().filter(|outcome| *outcome == "Unauthenticated").count() - 3;
    let throttled = outcomes.iter().filter(|outcome| *outcome == "ResourceExhausted").count();
    assert_eq!((without_any, throttled, outcomes.len()), (6, 1, 10), "{log}");
}

#[tokio::test]
async fn a_window_ends_and_no_limit_is_none() {
    for (failures, window_s) in [(2, 5), (0, 5)] {
        let mut place = Place::new(&[("m.onnx", "")]);
        let (unknown, _) = token("nobody", "reader");
        with_access(&mut place, ROLES);
        place.settings.auth.failures = failures;
        place.settings.auth.failures_window_s = window_s;
        let daemon = place.start(&World::new()).await;
        let mut found = Vec::new();
        for _ in 0..4 {
            found.push(status(&daemon, &unknown).await);
        }
        let limited = found.contains(&429);
        assert_eq!(limited, failures > 0, "{found:?}");
        let again = async {
            while status(&daemon, &unknown).await == 429 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), again).await.expect("the window ends");
        daemon.stop().await;
    }
}
