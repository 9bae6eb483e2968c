//! A model's page: the form to try it, and what its requests came to.

use serde_json::json;

use super::{Console, file};
use crate::scripted::{Place, World};

#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_tried_with_numbers_arrays_and_chance() {
    let (place, world) = (Place::new(&[("m.onnx", ""), ("s.onnx", "strings")]), World::new());
    let daemon = place.start(&world).await;
    let console = Console::open(&daemon, "#/models/m").await;
    let page = &console.page;
    let outputs = "Array.from(document.querySelectorAll('.grid tr'), (row) => \
                   Array.from(row.cells, (cell) => cell.textContent).join(' ')).join(';')";
    for (text, expected) in [
        ("1, 2.5 -3", "2 5 -6"),
        ("[[1, 2, 3], [4, 5, 6]]", "2 4 6;8 10 12"),
        ("nan inf -inf", "NaN Infinity -Infinity"),
        ("1e-7 1e10 0", "2.000e-7 2.000e+10 0"),
    ] {
        page.write(".try textarea", text).await.unwrap();
        page.click(".try button", "Run").await.unwrap();
        page.until(&format!("{text} gives {expected}"), &format!("{outputs} === {}", json!(expected)))
            .await
            .unwrap();
    }
    for (text, expected) in [
        ("1, 2", "2 elements do not fill rows of 3"),
        ("1, x, 3", "“x” is not a number"),
        ("[[1, 2, 3], [4, 5]]", "Lists of 3 and of 2 elements"),
        ("[1, [2, 3]]", "Numbers and lists are mixed"),
        ("[[1, 2, 3]", "A list is not closed"),
        ("[[[1, 2, 3]]]", "x"),
    ] {
        page.write(".try textarea", text).await.unwrap();
        page.click(".try button", "Run").await.unwrap();
        page.until(
            expected,
            &format!("document.querySelector('.try .failure')?.textContent.includes({})", json!(expected)),
        )
        .await
        .unwrap();
    }

    // What comes back goes in again: an archive of NumPy's, written and read by the console.
    page.write(".try textarea", "1 2 3 4 5 6").await.unwrap();
    page.click(".try button", "Run").await.unwrap();
    page.shows("answered in").await.unwrap();
    let keep = "const make = URL.createObjectURL; URL.createObjectURL = (blob) => make.call(URL, window.kept = blob); null";
    page.eval(keep).await.unwrap();
    page.click("button", "Download as .npz").await.unwrap();
    page.until("it is there", "window.kept").await.unwrap();
    let bytes =
        page.eval("window.kept.arrayBuffer().then((b) => Array.from(new Uint8Array(b)))").await.unwrap();
    let bytes: Vec<u8> = serde_json::from_value(bytes).unwrap();
    assert!(bytes.starts_with(b"PK"), "{bytes:?}");
    page.file("#arrays", &file(&place, "out.npz", &bytes)).await.unwrap();
    page.shows("filled y").await.unwrap();
    page.click(".try button", "Run").await.unwrap();
    page.until("doubled twice", &format!("{outputs} === '4 8 12;16 20 24'")).await.unwrap();

    page.choose(".try select", "made").await.unwrap();
    page.write("#input-0-made-shape", "200 × 3").await.unwrap();
    page.click(".try button", "Run").await.unwrap();
    page.shows("Deviation").await.unwrap();
    let facts = page.texts(".output .facts dd").await.unwrap();
    let [least, most] = [&facts[0], &facts[1]].map(|text| text.parse::<f64>().unwrap());
    assert!((0.0..0.2).contains(&least) && (1.8..=2.0).contains(&most), "uniform, doubled: {facts:?}");

    console.goto("#/models/s").await;
    page.shows("BYTES").await.unwrap();
    page.write(".try textarea", r#"["a", "ü\n\"", plain]"#).await.unwrap();
    page.click(".try button", "Run").await.unwrap();
    page.until("they come back", &format!("{outputs} === {}", json!(r#""a" "ü\n\"" "plain""#)))
        .await
        .unwrap();
    console.is_well(&[400]);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn latencies_and_the_course_of_a_request_are_shown() {
    let (place, world) = (Place::new(&[("m.onnx", "takes:5")]), World::new());
    let daemon = place.start(&world).await;
    let console = Console::open(&daemon, "#/models/m").await;
    let page = &console.page;
    page.write(".try textarea", "1 2 3").await.unwrap();
    page.click(".try button", "Run").await.unwrap();
    page.shows("answered in").await.unwrap();
    page.until("five histograms", "document.querySelectorAll('.histogram svg').length === 5").await.unwrap();
    let steps = page.texts(".step h3").await.unwrap();
    assert_eq!(steps, ["request", "queue", "input", "infer", "output"]);
    let infer = page.texts(".step:nth-of-type(4) dd").await.unwrap();
    assert_eq!(infer[0], "5 ms");
    page.shot("scripted-model").await.unwrap();

    page.click("a", "Where the time went").await.unwrap();
    page.until("there are spans", "document.querySelectorAll('.timeline .span').length > 3").await.unwrap();
    let names = page
        .eval("Array.from(document.querySelectorAll('.timeline .span title'), (t) => t.textContent)")
        .await;
    let names: Vec<String> = serde_json::from_value(names.unwrap()).unwrap();
    assert!(names[0].starts_with("request: ") && names.iter().any(|name| name == "infer: 5 ms"), "{names:?}");
    // A look at one, from the table that says the same.
    page.click("summary", "").await.unwrap();
    page.click("td ~ td, th button", "infer").await.unwrap();
    page.until("it is looked at", "document.querySelector('.detail h3').textContent === 'infer'")
        .await
        .unwrap();
    // The keys zoom.
    let ticks = "Array.from(document.querySelectorAll('.timeline .tick'), (tick) => tick.textContent).join()";
    let all = page.eval(ticks).await.unwrap();
    page.eval("document.querySelector('.timeline').focus()").await.unwrap();
    page.press("+").await.unwrap();
    page.until("the axis is another", &format!("{ticks} !== {all}")).await.unwrap();
    page.press("0").await.unwrap();
    page.until("the axis is as before", &format!("{ticks} === {all}")).await.unwrap();

    console.goto("#/requests").await;
    page.until("it is listed", "document.querySelectorAll('tbody tr').length === 1").await.unwrap();
    assert_eq!(page.texts("tbody td").await.unwrap()[3], "ok");
    console.goto("#/requests/nobody").await;
    page.shows("This request is not kept").await.unwrap();
    console.is_well(&[404]);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_profiled_where_it_is_tried() {
    let (place, world) = (Place::new(&[("m.onnx", "takes:5")]), World::new());
    let daemon = place.start(&world).await;
    let console = Console::open(&daemon, "#/models/m").await;
    let page = &console.page;
    page.write(".try textarea", "1 2 3").await.unwrap();
    page.click(".try button", "Profile").await.unwrap();
    page.until("there is a lane for each thread", "document.querySelectorAll('.timeline .lane').length >= 4")
        .await
        .unwrap();
    let lanes = page.texts(".timeline .lane").await.unwrap();
    assert_eq!(lanes[lanes.len() - 2..], ["thread 0", "thread 1"]);
    let cells = page.texts(".profile tbody tr > *").await.unwrap();
    assert_eq!(cells, ["y (Mul)", "double", "f32[1, 3]", "1", "5 ms", "100.0 %", "0.0", "–"]);
    page.shows("answered in").await.unwrap();
    page.shot("scripted-profile").await.unwrap();

    // One that is refused ends the wait for it: the next is watched.
    page.write(".try textarea", "1 2").await.unwrap();
    page.click(".try button", "Profile").await.unwrap();
    page.shows("2 elements do not fill rows of 3").await.unwrap();
    page.choose(".try select", "made").await.unwrap();
    page.write("#input-0-made-shape", "1 × 4").await.unwrap();
    page.click(".try button", "Profile").await.unwrap();
    page.until("it is refused", "document.querySelector('.try .failure')?.textContent.includes('x')")
        .await
        .unwrap();
    page.write("#input-0-made-shape", "2 × 3").await.unwrap();
    let asked = "document.querySelector('.profile') !== null";
    while page.eval(asked).await.unwrap() != true {
        page.click(".try button", "Profile").await.unwrap();
        page.until("it has ended", "!document.querySelector('.try button.primary').disabled").await.unwrap();
    }
    assert_eq!(page.texts(".profile tbody td:nth-child(3)").await.unwrap(), ["f32[2, 3]"]);
    console.is_well(&[400, 409]);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dispatches_have_a_lane_for_each_thread() {
    let (place, world) = (Place::new(&[]), World::new());
    let daemon = place.start(&world).await;
    let console = Console::open(&daemon, "#/requests").await;
    let page = &console.page;
    page.shows("None is kept.").await.unwrap();
    let step = |name: &str, parent: u32, start: u64, end: u64| json!({ "name": name, "parent": parent, "start_ns": start, "end_ns": end, "attributes": {} });
    let mut spans = vec![json!({ "name": "request", "start_ns": 0, "end_ns": 2_000_000, "attributes": {} })];
    spans.extend([step("queue", 0, 1000, 9000), step("infer", 0, 10_000, 1_900_000)]);
    for at in 0..1000 {
        let mut dispatch = step("dispatch matmul", 2, 10_000 + 1000 * at, 10_800 + 1000 * at);
        dispatch["thread"] = (at % 2).into();
        dispatch["attributes"] = json!({ "nodes": format!("/layer/{at}") });
        spans.push(dispatch);
    }
    let show = format!(
        "import('/console/timeline.js').then(({{ timeline }}) => {{
            window.shown = timeline({});
            document.querySelector('.page').append(window.shown.node);
        }})",
        json!(spans)
    );
    page.eval(&show).await.unwrap();
    page.until("it is drawn", "document.querySelector('.timeline .crowd')").await.unwrap();
    assert_eq!(page.texts(".timeline .lane").await.unwrap(), ["request", "steps", "thread 0", "thread 1"]);
    let drawn = page.eval("document.querySelectorAll('.timeline rect').length").await.unwrap();
    assert!(drawn.as_u64() < Some(200), "a thousand dispatches in two lanes are {drawn} rectangles");

    page.eval("window.shown.select(700)").await.unwrap();
    page.click(".tools button", "Step").await.unwrap();
    page.shows("/layer/697").await.unwrap();
    assert_eq!(page.texts(".timeline .selected text").await.unwrap(), ["matmul"]);
    console.is_well(&[]);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn halves_are_rounded_as_the_standard_says() {
    let (place, world) = (Place::new(&[]), World::new());
    let daemon = place.start(&world).await;
    let console = Console::open(&daemon, "").await;
    let bits = async |datatype: &str, values: &str| {
        let encode = format!(
            "import('/console/tensors.js').then(({{ encode }}) => \
             Array.from(new Uint16Array(encode('{datatype}', [{values}]).buffer)))"
        );
        console.page.eval(&encode).await.unwrap()
    };
    let half = bits("FP16", "1, -2, 65519, 65520, 2049, 2051, 2 ** -24, 2 ** -25, 3e-8, -0, NaN").await;
    assert_eq!(half, json!([0x3c00, 0xc000, 0x7bff, 0x7c00, 0x6800, 0x6802, 1, 0, 1, 0x8000, 0x7e00]));
    let brain = bits("BF16", "1, 1.00390625, 1.01171875, 3.4e38, -Infinity, NaN").await;
    assert_eq!(brain, json!([0x3f80, 0x3f80, 0x3f82, 0x7f80, 0xff80, 0x7fc0]));
    console.is_well(&[]);
    daemon.stop().await;
}
