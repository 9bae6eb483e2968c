//! Tenants: whose requests run next, and how many each may have.

use std::path::PathBuf;
use std::time::Duration;

use ired::Daemon;
use ired::config::AuditSettings;
use ired_proto::inference::infer_parameter::ParameterChoice;
use ired_proto::inference::{ModelInferRequest, ModelInferResponse};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

use crate::jwt::Provider;
use crate::schedule::{Answering, asking, floats, grpc, metric, until_metric, until_waiting, with};
use crate::scripted::{Place, Reply, World, http};
use crate::security::{ROLES, put, token, with_access};

pub(crate) const JWT: &str =
    "[jwt]\nkeys = \"jwks.json\"\nissuer = \"i\"\naudience = \"a\"\nleeway_s = 0\ntenant_claim = \"org\"\n";

/// Somebody with a token, who calls.
#[derive(Clone)]
pub(crate) struct Caller {
    grpc: crate::schedule::Grpc,
    http: std::net::SocketAddr,
    bearer: String,
}

impl Caller {
    pub(crate) async fn new(daemon: &Daemon, token: &str) -> Self {
        Self { grpc: grpc(daemon).await, http: daemon.http, bearer: format!("Bearer {token}") }
    }

    pub(crate) async fn infer(&self, request: ModelInferRequest) -> Result<ModelInferResponse, Status> {
        let mut request = Request::new(request);
        request.metadata_mut().insert("authorization", self.bearer.parse().unwrap());
        Ok(self.grpc.clone().model_infer(request).await?.into_inner())
    }

    pub(crate) fn ask(&self, request: ModelInferRequest) -> Answering {
        let caller = self.clone();
        tokio::spawn(async move { caller.infer(request).await })
    }

    async fn rest(&self, model: &str) -> Reply {
        let json = br#"{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":[1,2,3]}]}"#;
        let path = format!("/v2/models/{model}/infer");
        http(self.http, "POST", &path, &[("Authorization", &self.bearer)], json).await
    }
}

/// A place with an access file that has these tenants, each with a token of its own, and a reader without.
pub(crate) fn place_with(models: &[(&str, &str)], tenants: &[(&str, &str)]) -> (Place, Vec<String>) {
    let mut place = Place::new(models);
    let mut text = ROLES.to_owned();
    let mut tokens = Vec::new();
    for (name, limits) in tenants {
        let (secret, entry) = token(&format!("of {name}"), "reader");
        text.push_str(&format!("[[tenant]]\nname = \"{name}\"\n{limits}\n{entry}tenant = \"{name}\"\n"));
        tokens.push(secret);
    }
    let (secret, entry) = token("of none", "reader");
    tokens.push(secret);
    let (_, monitor) = token("monitor", "monitor");
    with_access(&mut place, &format!("{text}{entry}{monitor}"));
    place.settings.auth.open.push(ired::config::Open::Metrics);
    (place, tokens)
}

/// As many callers as there are tokens.
pub(crate) async fn callers(daemon: &Daemon, tokens: &[String]) -> Vec<Caller> {
    let mut callers = Vec::new();
    for token in tokens {
        callers.push(Caller::new(daemon, token).await);
    }
    callers
}

fn ran(world: &World) -> Vec<f32> {
    world.seen().ran.iter().map(|(_, value)| *value).collect()
}

#[tokio::test]
async fn a_flood_of_one_tenant_delays_another_by_a_turn() {
    let one = "instance_group { count: 1 }";
    let files = [("m/1/model.onnx", "block"), ("m/config.pbtxt", one)];
    let (place, tokens) = place_with(&files, &[("a", ""), ("b", "weight = 2")]);
    let world = World::new();
    let daemon = place.start(&world).await;
    let callers = callers(&daemon, &tokens).await;
    let [a, b, nobodys] = &callers[..] else { panic!() };
    let mut answers = vec![a.ask(asking("m", 1, 1.0))];
    world.until(|seen| seen.inside == 1).await;
    for _ in 0..20 {
        answers.push(a.ask(asking("m", 1, 1.0)));
        until_waiting(&daemon, answers.len() as f64 - 1.0).await;
    }
    for value in [2.0, 2.5, 2.25] {
        let urgent = if value == 2.25 { 1 } else { 2 };
        let request = with(asking("m", 1, value), "priority", ParameterChoice::Uint64Param(urgent));
        answers.push(b.ask(request));
        until_waiting(&daemon, answers.len() as f64 - 1.0).await;
    }
    answers.push(nobodys.ask(asking("m", 1, 3.0)));
    until_waiting(&daemon, answers.len() as f64 - 1.0).await;
    assert_eq!(metric(&daemon, "ired_tenant_requests_waiting{tenant=\"a\"}").await, Some(20.0));
    assert_eq!(metric(&daemon, "ired_tenant_requests_inside{tenant=\"b\"}").await, Some(3.0));
    world.release();
    for answer in answers {
        answer.await.unwrap().unwrap();
    }
    let order = ran(&world);
    let at = |value: f32| order.iter().position(|found| *found == value).unwrap();
    assert!(at(2.25) <= 3 && at(3.0) <= 3, "each is among the first that wait: {order:?}");
    assert!(at(2.25) < at(2.0) && at(2.0) < at(2.5) && at(2.5) <= 6, "two turns for one of `a`: {order:?}");
    assert_eq!(order.len(), 25);
    assert_eq!(metric(&daemon, "ired_tenant_requests_total{tenant=\"a\"}").await, Some(21.0));
    assert_eq!(metric(&daemon, "ired_tenant_requests_total{tenant=\"default\"}").await, Some(1.0));
    let computed = metric(&daemon, "ired_tenant_compute_seconds_total{tenant=\"b\"}").await.unwrap();
    assert!((8e-6..1.0).contains(&computed), "three microseconds for each: {computed}");
    until_metric(&daemon, "ired_tenant_requests_inside{tenant=\"a\"}", 0.0).await;
    daemon.stop().await;
}

#[tokio::test]
async fn a_flood_leaves_room_in_the_queue_for_others() {
    let one = "instance_group { count: 1 }";
    let files = [("m/1/model.onnx", "block"), ("m/config.pbtxt", one)];
    let (mut place, tokens) = place_with(&files, &[("a", ""), ("b", "")]);
    place.settings.queue_limit = 10;
    let world = World::new();
    let daemon = place.start(&world).await;
    let callers = callers(&daemon, &tokens).await;
    let [a, b, _] = &callers[..] else { panic!() };
    let mut answers = Vec::new();
    for inside in 1..=8 {
        answers.push(a.ask(asking("m", 1, 1.0)));
        until_metric(&daemon, "ired_tenant_requests_inside{tenant=\"a\"}", f64::from(inside)).await;
    }
    let refused = a.infer(asking("m", 1, 1.0)).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    let text = "model `m` has 8 requests of tenant `a` inside already; 2 of 10 places are left for others";
    assert_eq!(refused.message(), text);
    assert_eq!(a.rest("m").await.status, 503, "there is no room, whoever is at fault");
    answers.push(b.ask(asking("m", 1, 2.0)));
    until_metric(&daemon, "ired_tenant_requests_inside{tenant=\"b\"}", 1.0).await;
    world.release();
    for answer in answers {
        answer.await.unwrap().unwrap();
    }
    assert_eq!(ran(&world).iter().position(|value| *value == 2.0), Some(1));
    daemon.stop().await;
}

#[tokio::test]
async fn what_is_beyond_a_tenants_limits_is_refused_with_the_numbers() {
    let one = "instance_group { count: 1 }";
    let files = [("m/1/model.onnx", "block"), ("m/config.pbtxt", one), ("mn.onnx", "")];
    let limits =
        [("few", "requests = 2"), ("short", "waiting = 1"), ("slow", "requests_per_second = 0.1\nburst = 2")];
    let (mut place, tokens) = place_with(&files, &limits);
    let log = place.dir.path().join("audit.log");
    place.settings.audit = AuditSettings { file: Some(log.clone()), ..AuditSettings::default() };
    let world = World::new();
    let daemon = place.start(&world).await;
    let callers = callers(&daemon, &tokens).await;
    let [few, short, slow, nobodys] = &callers[..] else { panic!() };

    // Over all models.
    let mut answers = vec![few.ask(asking("m", 1, 1.0)), few.ask(asking("m", 1, 1.0))];
    until_waiting(&daemon, 1.0).await;
    let refused = few.infer(asking("mn", 1, 1.0)).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert_eq!(refused.message(), "tenant `few` has 2 requests inside already");
    assert!(refused.get_details_retry_info().unwrap().retry_delay.unwrap() > Duration::ZERO);
    let reply = few.rest("mn").await;
    assert_eq!((reply.status, reply.error().as_str()), (429, "tenant `few` has 2 requests inside already"));
    assert!(reply.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);

    answers.push(short.ask(asking("m", 1, 1.0)));
    until_waiting(&daemon, 2.0).await;
    let refused = short.infer(asking("m", 1, 1.0)).await.unwrap_err();
    assert_eq!(refused.message(), "tenant `short` has 1 requests waiting already");
    assert_eq!(short.rest("m").await.status, 429);
    short.infer(asking("mn", 1, 1.0)).await.unwrap();

    slow.infer(asking("mn", 1, 1.0)).await.unwrap();
    assert_eq!(slow.rest("mn").await.status, 200);
    let refused = slow.infer(asking("mn", 1, 1.0)).await.unwrap_err();
    assert_eq!(refused.message(), "tenant `slow` sends 0.1 requests a second at most, and 2 at once");
    let reply = slow.rest("mn").await;
    assert_eq!(reply.status, 429);
    assert!((9..=10).contains(&reply.header("retry-after").unwrap().parse::<u64>().unwrap()), "{reply:?}");

    nobodys.infer(asking("mn", 1, 1.0)).await.unwrap();
    nobodys.infer(asking("secret", 1, 1.0)).await.unwrap_err();
    few.infer(asking("secret", 1, 1.0)).await.unwrap_err();
    world.release();
    for answer in answers {
        answer.await.unwrap().unwrap();
    }
    few.infer(asking("mn", 1, 1.0)).await.unwrap();
    let of = |name: &str, reason: &str| {
        format!("ired_tenant_requests_refused_total{{tenant=\"{name}\",reason=\"{reason}\"}}")
    };
    for (name, reason) in [("few", "full"), ("short", "queue"), ("slow", "rate")] {
        assert_eq!(metric(&daemon, &of(name, reason)).await, Some(2.0), "{name}");
    }
    assert_eq!(metric(&daemon, &of("few", "rate")).await, Some(0.0));
    let of_model = "ired_requests_refused_total{model=\"mn\",reason=\"tenant\"";
    assert_eq!(metric(&daemon, of_model).await, Some(4.0));
    daemon.stop().await;
    let log = std::fs::read_to_string(log).unwrap();
    let tenants: Vec<serde_json::Value> = log
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["tenant"].take())
        .collect();
    assert_eq!(tenants, ["default", "few"]);
}

#[tokio::test]
async fn tokens_of_a_provider_say_whose_they_are_and_strangers_share_a_label() {
    let mut place = Place::new(&[("m.onnx", "")]);
    let listed = "[[tenant]]\nname = \"known\"\nrequests_per_second = 0.01\n\
                  [[tenant]]\nname = \"*\"\nrequests_per_second = 0.01\nburst = 2\n";
    with_access(&mut place, &format!("{ROLES}{listed}{JWT}"));
    place.settings.auth.open.push(ired::config::Open::Metrics);
    let provider = Provider::new();
    put(&place.dir.path().join("jwks.json"), &provider.jwks);
    let daemon = place.start(&World::new()).await;
    let expires = jsonwebtoken::get_current_timestamp() + 600;
    let signed = |subject: &str, org: serde_json::Value| {
        let mut claims = serde_json::json!({
            "iss": "i", "aud": "a", "sub": subject, "exp": expires, "roles": "reader",
        });
        claims["org"] = org;
        provider.sign(1, &claims)
    };
    let infer = async |token: &str| {
        let caller = Caller::new(&daemon, token).await;
        caller.infer(asking("m", 1, 1.0)).await.map(drop)
    };
    infer(&signed("eva", "known".into())).await.unwrap();
    let refused = infer(&signed("adam", "known".into())).await.unwrap_err();
    assert!(
        refused.message().starts_with("tenant `known` sends 0.01 "),
        "another token of one tenant: {refused}"
    );
    for stranger in ["s1", "s2"] {
        infer(&signed("eva", stranger.into())).await.unwrap();
        infer(&signed("adam", stranger.into())).await.unwrap();
        infer(&signed("eva", stranger.into())).await.unwrap_err();
    }
    for none in [signed("eva", serde_json::Value::Null), {
        let claims =
            serde_json::json!({"iss": "i", "aud": "a", "sub": "x", "exp": expires, "roles": "reader"});
        provider.sign(1, &claims)
    }] {
        infer(&none).await.unwrap();
    }
    for wrong in [7.into(), "".into(), "x".repeat(129).into(), "a\nb".into()] {
        let error = infer(&signed("eva", wrong)).await.unwrap_err();
        assert_eq!(error.code(), Code::Unauthenticated, "{error}");
    }
    let text = http(daemon.metrics, "GET", "/metrics", &[], b"").await.body;
    let text = String::from_utf8(text.to_vec()).unwrap();
    let totals: Vec<&str> =
        text.lines().filter(|line| line.starts_with("ired_tenant_requests_total{")).collect();
    assert_eq!(
        totals,
        [
            "ired_tenant_requests_total{tenant=\"*\"} 4",
            "ired_tenant_requests_total{tenant=\"default\"} 2",
            "ired_tenant_requests_total{tenant=\"known\"} 1",
        ]
    );
    daemon.stop().await;
}

#[tokio::test]
async fn what_a_tenant_used_is_remembered_when_the_file_changes() {
    let (place, tokens) = place_with(&[("m.onnx", "")], &[("a", "requests_per_second = 0.01")]);
    let daemon = place.start(&World::new()).await;
    let caller = Caller::new(&daemon, &tokens[0]).await;
    caller.infer(asking("m", 1, 1.0)).await.unwrap();
    let text = caller.infer(asking("m", 1, 1.0)).await.unwrap_err();
    assert!(text.message().contains("0.01 requests a second at most, and 1 at once"), "{text}");
    let file: PathBuf = place.settings.auth.access.clone().unwrap();
    let other = std::fs::read_to_string(&file).unwrap().replace("= 0.01", "= 0.02");
    put(&file, &other);
    daemon.reload();
    let changed = async {
        loop {
            let text = caller.infer(asking("m", 1, 1.0)).await.unwrap_err();
            if text.message().contains("0.02 requests a second at most") {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), changed).await.expect("the new rate counts");
    assert_eq!(metric(&daemon, "ired_tenant_requests_total{tenant=\"a\"}").await, Some(1.0));
    daemon.stop().await;
}

#[tokio::test]
async fn sequences_of_two_tenants_are_two_even_by_one_name() {
    let config = "max_batch_size: 4 sequence_batching { \
        control_input { name: \"start\" control { kind: CONTROL_SEQUENCE_START int32_false_true: [0, 1] } } \
        control_input { name: \"end\" control { kind: CONTROL_SEQUENCE_END int32_false_true: [0, 1] } } \
        control_input { name: \"corrid\" control { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT64 } } \
        state { input_name: \"state\" output_name: \"next\" data_type: TYPE_FP32 dims: [3] } }";
    let files = [("m/1/model.onnx", "sequence"), ("m/config.pbtxt", config)];
    let (place, tokens) = place_with(&files, &[("a", ""), ("b", "")]);
    let daemon = place.start(&World::new()).await;
    let callers = callers(&daemon, &tokens).await;
    let step = |value: f32, start: bool| {
        let request = with(asking("m", 1, value), "sequence_id", ParameterChoice::Uint64Param(7));
        with(request, "sequence_start", ParameterChoice::BoolParam(start))
    };
    let sum =
        async |caller: &Caller, value, start| floats(&caller.infer(step(value, start)).await.unwrap())[0];
    assert_eq!(sum(&callers[0], 1.0, true).await, 1.0);
    let refused = callers[1].infer(step(10.0, false)).await.unwrap_err();
    assert!(refused.message().contains("sequence `7` of model `m` is not in progress"), "{refused}");
    assert_eq!(sum(&callers[1], 10.0, true).await, 10.0);
    assert_eq!(sum(&callers[0], 2.0, false).await, 3.0);
    assert_eq!(sum(&callers[1], 20.0, false).await, 30.0);
    daemon.stop().await;
}

#[tokio::test]
async fn tenants_with_a_mistake_are_refused_with_its_place() {
    let (_, entry) = token("t", "reader");
    for (text, expected) in [
        ("[[tenant]]\nname = \"\"\n", "2:8: a tenant's name has from 1 to 128 characters; found 0"),
        ("[[tenant]]\nname = \"a*\"\n", "2:8: tenants have no patterns: a name, or `*` for each"),
        ("[[tenant]]\nname = \"a\"\nwieght = 2\n", "3:1: unknown field `wieght`"),
        ("[[tenant]]\nname = \"a\"\nweight = 0\n", "3:10: found 0, expected a weight from 0.001 to 1000"),
        (
            "[[tenant]]\nname = \"a\"\nrequests = 0\n",
            "3:12: found 0, expected a number of requests from 1 on",
        ),
        (
            "[[tenant]]\nname = \"a\"\nwaiting = -1\n",
            "3:11: found -1, expected a number of requests from 1 on",
        ),
        (
            "[[tenant]]\nname = \"a\"\nrequests_per_second = inf\n",
            "3:23: found inf, expected requests per second",
        ),
        (
            "[[tenant]]\nname = \"a\"\nrequests_per_second = 5\nburst = 0.5\n",
            "4:9: found 0.5, expected requests at once",
        ),
        (
            "[[tenant]]\nname = \"a\"\nburst = 5\n",
            "3:9: tenant `a` has a `burst` and no `requests_per_second`",
        ),
        ("[[tenant]]\nname = \"a\"\n[[tenant]]\nname = \"a\"\n", "4:8: tenant `a` is there twice"),
        (&format!("{ROLES}{entry}tenant = \"b\"\n"), "22:10: there is no tenant `b`"),
        ("[[certificate]]\nname = \"*\"\nroles = []\ntenant = \"b\"\n", "4:10: there is no tenant `b`"),
    ] {
        let mut place = Place::new(&[]);
        with_access(&mut place, text);
        let error = format!("{:#}", place.try_start(&World::new()).await.err().unwrap());
        assert!(error.contains(&format!("access.toml:{expected}")), "{error}");
    }
}
