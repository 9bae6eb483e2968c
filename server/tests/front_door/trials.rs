//! What a version goes through before it answers.

use ired_client::{Client, ClientError, InferRequest};
use tonic::Code;

use crate::scripted::{Place, World, client, request};

const REQUEST: &str =
    r#"{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":[1,2,3]}],"outputs":[{"name":"y"}]}"#;

fn answer(y: &str) -> String {
    format!(r#"{{"model_name":"m","outputs":[{{"name":"y","shape":[1,3],"datatype":"FP32","data":[{y}]}}]}}"#)
}

async fn answering(client: &Client) -> String {
    client.infer(InferRequest { ..request("m") }).await.unwrap().version
}

/// The error of a load, which leaves version 1 where it is.
async fn refused(client: &Client) -> ClientError {
    let error = client.load("m").await.unwrap_err();
    assert_eq!(answering(client).await, "1", "{error}");
    error
}

#[tokio::test]
async fn a_version_is_warmed_up_before_it_answers() {
    let (place, world) = (Place::new(&[("m/1/model.onnx", "one")]), World::new());
    place.write("m/warmup/three.bin", "");
    std::fs::write(place.path("m/warmup/three.bin"), 7f32.to_le_bytes().repeat(9)).unwrap();
    place.write(
        "m/config.pbtxt",
        "max_batch_size: 8\n\
         model_warmup { name: 'zeros' batch_size: 2 count: 3 \
           inputs { key: 'x' value { data_type: TYPE_FP32 dims: 3 zero_data: true } } }\n\
         model_warmup [ { name: 'random' batch_size: 1 inputs { key: 'x' value { dims: 3 random_data: true } } },\n\
           { name: 'file' batch_size: 3 inputs { key: 'x' value { dims: 3 input_data_file: 'three.bin' } } } ]",
    );
    let daemon = place.start(&world).await;
    let ran = world.seen().ran;
    assert_eq!(ran[..3], [(2, 0.0); 3]);
    assert!(ran[3].0 == 1 && (0.0..=1.0).contains(&ran[3].1), "{ran:?}");
    assert_eq!(ran[4..], [(3, 7.0)]);
    let client = client(&daemon).await;
    assert_eq!(
        client.statistics("m", None).await.unwrap()[0].inference_count,
        0,
        "none of them was a client's"
    );

    // One that fails at it does not take the place of the one before.
    place.write("m/2/model.onnx", "fails");
    let error = refused(&client).await;
    assert!(error.to_string().contains("warm-up `zeros` of m/2: "), "{error}");
    assert_eq!(world.seen().shut_down, 1);
    place.write("m/2/model.onnx", "two");
    let warm_up = |inputs: &str| format!("model_warmup {{ name: 'w' batch_size: 1 {inputs} }}");
    let cases = [
        (warm_up(""), "warm-up `w` of m/2: input `x` is missing"),
        (
            warm_up("inputs { key: 'z' value { dims: 3 zero_data: true } }"),
            "input `z` of `w` is none of the model's",
        ),
        (warm_up("inputs { key: 'x' value { dims: 3 } }"), "has none of `zero_data`, `random_data`"),
        (
            warm_up("inputs { key: 'x' value { dims: [-1, 3] zero_data: true } }"),
            "input `x` of `w` has dimension -1; a request has its size",
        ),
        (
            warm_up("inputs { key: 'x' value { dims: [1, 3] input_data_file: '../config.pbtxt' } }"),
            "there is no file `warmup/../config.pbtxt`",
        ),
        (
            warm_up("inputs { key: 'x' value { dims: [1, 3] input_data_file: 'three.bin' } }"),
            "input `x`: found 36 bytes, its shape needs 12",
        ),
        (
            warm_up("inputs { key: 'x' value { dims: [1099511627776, 3] zero_data: true } }"),
            "a request with input `x` has 13194139533312 bytes; at most",
        ),
        (warm_up("count: 1001"), "1001 requests in all; at most 1000 are run"),
    ];
    for (config, told) in cases {
        place.write("m/2/config.pbtxt", &config);
        let error = refused(&client).await;
        assert!(error.to_string().contains(told), "{config}: {error}");
    }
    place.write("m/2/config.pbtxt", "sequence_batching { } model_warmup { name: 'w' }");
    assert_eq!(refused(&client).await.code(), Some(Code::Unimplemented));
    std::fs::remove_file(place.path("m/2/config.pbtxt")).unwrap();
    client.load("m").await.unwrap();
    assert_eq!(answering(&client).await, "2");
    daemon.stop().await;
}

#[tokio::test]
async fn a_version_that_answers_otherwise_than_it_should_is_not_switched_to() {
    let (place, world) = (Place::new(&[("m/1/model.onnx", "times:4")]), World::new());
    place.write("m/golden/small.json", REQUEST);
    let daemon = place.start(&world).await;
    let client = client(&daemon).await;

    // What is expected is what the version before answers,
    place.write("m/2/model.onnx", "times:5");
    let error = refused(&client).await;
    assert_eq!(error.code(), Some(Code::FailedPrecondition));
    let told = "m/2 does not answer golden request `golden/small.json` as m/1 says: output `y`, element [0, 0]: \
                found 5, expected 4 exactly";
    assert!(error.to_string().contains(told), "{error}");
    assert_eq!(world.seen().launched, 2);
    assert_eq!(world.seen().shut_down, 1, "what was tried is gone");
    let tolerance = |bound: &str| {
        let parameter = "parameters { key: 'ired.golden_relative' value { string_value: 'BOUND' } }";
        place.write("m/config.pbtxt", &parameter.replace("BOUND", bound));
    };
    tolerance("0.2");
    refused(&client).await;
    tolerance("-1");
    let error = refused(&client).await;
    assert!(error.to_string().contains("`ired.golden_relative` is `-1`, not a number from 0 on"), "{error}");
    // or what was recorded, wherever that lies.
    tolerance("0");
    place.write("m/golden/small.answer.json", &answer("5,10,15.5"));
    let error = refused(&client).await;
    let told =
        "as `golden/small.answer.json` says: output `y`, element [0, 2]: found 15, expected 15.5 exactly";
    assert!(error.to_string().contains(told), "{error}");
    place.write("m/golden/small.answer.json", "{");
    let error = refused(&client).await;
    let told = "`golden/small.answer.json` of m/2 is not what was recorded of a request: it is not the expected JSON";
    assert!(error.to_string().contains(told), "{error}");
    place.write("m/2/golden/own.json", "{\"inputs\":[]}");
    let error = refused(&client).await;
    assert!(
        error.to_string().contains("m/2 does not answer golden request `golden/own.json`: input `x`"),
        "{error}"
    );
    place.write("m/2/golden/own.json", REQUEST);
    place.write("m/2/golden/own.answer.json", &answer("5,10,15"));
    client.load("m").await.unwrap();
    assert_eq!(answering(&client).await, "2");
    daemon.stop().await;
}

#[tokio::test]
async fn a_version_within_its_tolerance_is_switched_to() {
    let (place, world) = (Place::new(&[("m/1/model.onnx", "times:4")]), World::new());
    place.write("m/golden/small.json", REQUEST);
    let daemon = place.start(&world).await;
    let client = client(&daemon).await;
    place.write("m/2/model.onnx", "times:5");
    place.write("m/2/config.pbtxt", "parameters { key: 'ired.golden_absolute' value { string_value: '3' } }");
    client.load("m").await.unwrap();
    assert_eq!(answering(&client).await, "2");
    daemon.stop().await;
}
