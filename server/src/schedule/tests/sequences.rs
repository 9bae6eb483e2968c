//! What is made for sequences, and who waits for their places.

use ired_module::DType;
use ired_module::signature::{DimSpec, TensorSpec};
use ired_worker::Tensor;

use super::*;

fn sequences(limit: usize, idle: Duration) -> Sequences {
    let rows = DimSpec::Symbolic { name: "N".to_owned(), min: 0, max: u64::MAX };
    let spec = TensorSpec { name: "start".to_owned(), dtype: DType::I32, dims: vec![rows] };
    let value = ControlValue::Start { no: vec![0; 4], yes: vec![1, 0, 0, 0] };
    let controls = vec![ControlInput { spec, value }];
    Sequences::new("m", SequencePolicy { controls, idle, limit, ..SequencePolicy::default() }, Ledger::new(0))
}

fn step(number: u64, start: bool, end: bool) -> Step {
    Step { id: SequenceId { tenant: 0, name: CorrelationId::Number(number) }, start, end }
}

#[tokio::test]
async fn rows_without_data_make_no_large_tensors() {
    let sequences = sequences(1, Duration::from_secs(600));
    let turn = sequences.turn(step(1, true, false)).await.unwrap();
    let given = |rows: u64| {
        vec![Tensor { name: "x".to_owned(), dtype: DType::F32, dims: vec![rows, 0], data: Vec::new().into() }]
    };
    for rows in [(4 << 20) + 1, 1 << 40, u64::MAX] {
        let refused = turn.add(&mut given(rows)).unwrap_err().to_string();
        assert_eq!(refused, format!("control input `start` of {rows} rows takes more than 16777216 bytes"));
    }
    let mut inputs = given(4 << 20);
    turn.add(&mut inputs).unwrap();
    assert_eq!((inputs[1].dims[0], inputs[1].data.len()), (4 << 20, 16 << 20));
}

#[tokio::test]
async fn who_waits_for_a_place_keeps_his_turn_when_he_looks_for_idle_ones() {
    let sequences = sequences(1, Duration::from_millis(1));
    let runs = sequences.turn(step(1, true, true)).await.unwrap();
    let mut waiting = [2, 3].map(|id| sequences.turn(step(id, true, true)).boxed_local());
    for waiting in &mut waiting {
        assert!(poll!(waiting).is_pending());
    }
    // Until he is to look again.
    tokio::time::sleep(Duration::from_millis(20)).await;
    let [first, second] = &mut waiting;
    assert!(poll!(&mut *first).is_pending());
    drop(runs);
    assert!(poll!(second).is_pending());
    assert!(poll!(first).is_ready());
}
