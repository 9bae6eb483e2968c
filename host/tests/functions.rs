//! Host functions against values worked out by hand or by numpy, and against operands that make no sense.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use ired_host::*;
use proptest::prelude::*;

struct Fixture {
    strings: StringTable,
}

impl Fixture {
    fn new() -> Self {
        Self { strings: StringTable::default() }
    }

    fn strings(&mut self, dims: &[u64], texts: &[&str]) -> HostTensor {
        let handles: Vec<u64> = texts.iter().map(|t| self.strings.intern(t.as_bytes()).unwrap()).collect();
        let data = handles.iter().flat_map(|h| h.to_le_bytes()).collect();
        HostTensor { dtype: DType::String, dims: dims.to_vec(), data }
    }

    fn run(
        &mut self,
        attributes: &impl Attributes,
        operands: &[HostTensor],
    ) -> Result<Vec<HostTensor>, HostError> {
        let views: Vec<TensorView<'_>> = operands.iter().map(HostTensor::view).collect();
        run(&HostCall::new(attributes), &views, &mut self.strings, Limits::default())
    }

    fn texts(&self, tensor: &HostTensor) -> Vec<&str> {
        assert_eq!(tensor.dtype, DType::String);
        let (words, _) = tensor.data.as_chunks();
        words
            .iter()
            .map(|w| std::str::from_utf8(self.strings.get(u64::from_le_bytes(*w)).unwrap()).unwrap())
            .collect()
    }
}

fn i64s(tensor: &HostTensor) -> Vec<i64> {
    assert_eq!(tensor.dtype, DType::I64);
    tensor.data.as_chunks().0.iter().map(|w| i64::from_le_bytes(*w)).collect()
}

#[test]
fn strings_are_joined_element_by_element() {
    let mut f = Fixture::new();
    let (x, y) = (f.strings(&[2], &["abc", ""]), f.strings(&[2], &[".com", "de\u{301}"]));
    let out = f.run(&StringConcat, &[x, y]).unwrap();
    assert_eq!(f.texts(&out[0]), ["abc.com", "de\u{301}"]);
}

#[test]
fn pieces_are_those_of_python() {
    let check = |delimiter: Option<&str>, max: Option<u64>, text: &str, expected: &[&str]| {
        let mut f = Fixture::new();
        let x = f.strings(&[1], &[text]);
        let split = StringSplit { delimiter: delimiter.map(str::to_owned), max_splits: max };
        let out = f.run(&split, &[x]).unwrap();
        assert_eq!(
            (f.texts(&out[0]), out[0].dims.clone()),
            (expected.to_vec(), vec![1, expected.len() as u64])
        );
        assert_eq!(i64s(&out[1]), [expected.len() as i64]);
    };
    check(None, None, "  a b\t c ", &["a", "b", "c"]);
    check(None, Some(1), "  a b  c ", &["a", "b  c "]);
    check(None, Some(0), "  a b ", &["a b "]);
    check(Some(""), None, " \u{a0} ", &[]);
    check(Some(","), None, ",a,,", &["", "a", "", ""]);
    check(Some(","), Some(1), "a,b,c", &["a", "b,c"]);
    check(Some("--"), None, "a---b", &["a", "-b"]);
    check(Some(","), None, "", &[""]);
}

#[test]
fn shorter_lists_of_pieces_are_filled_up() {
    let mut f = Fixture::new();
    let x = f.strings(&[2, 1], &["a b", "c"]);
    let out = f.run(&StringSplit { delimiter: None, max_splits: None }, &[x]).unwrap();
    assert_eq!((f.texts(&out[0]), out[0].dims.as_slice()), (vec!["a", "b", "c", ""], &[2, 1, 2][..]));
    let none = f.strings(&[0], &[]);
    let out = f.run(&StringSplit { delimiter: None, max_splits: None }, &[none]).unwrap();
    assert_eq!((out[0].dims.as_slice(), out[1].dims.as_slice()), (&[0, 0][..], &[0][..]));
}

#[test]
fn stop_words_go_before_case_changes() {
    let normalize = |case_change, case_sensitive, words: &[&str]| StringNormalize {
        case_change,
        case_sensitive,
        stop_words: words.iter().map(|w| (*w).to_owned()).collect(),
    };
    let mut f = Fixture::new();
    let x = f.strings(&[3], &["Monday", "tuesday", "stra\u{df}e"]);
    let out = f.run(&normalize(CaseChange::Upper, true, &["monday"]), std::slice::from_ref(&x)).unwrap();
    assert_eq!(f.texts(&out[0]), ["MONDAY", "TUESDAY", "STRASSE"]);
    let out = f.run(&normalize(CaseChange::None, false, &["monday"]), std::slice::from_ref(&x)).unwrap();
    assert_eq!(f.texts(&out[0]), ["tuesday", "stra\u{df}e"]);
    let row = HostTensor { dims: vec![1, 3], ..x };
    let all = ["monday", "TUESDAY", "stra\u{df}e"];
    let out = f.run(&normalize(CaseChange::Lower, false, &all), &[row]).unwrap();
    assert_eq!((f.texts(&out[0]), out[0].dims.as_slice()), (vec![""], &[1, 1][..]));
}

#[test]
fn patterns_match_whole_strings() {
    let mut f = Fixture::new();
    let x = f.strings(&[4], &["www.google.com", "www.google.comx", "a\n", ""]);
    let matches = |f: &mut Fixture, pattern: &str| {
        f.run(&RegexFullMatch { pattern: pattern.to_owned() }, std::slice::from_ref(&x))
            .map(|out| out[0].data.clone())
    };
    assert_eq!(matches(&mut f, r"www\.[\w.-]+\.com|").unwrap(), [1, 0, 0, 1]);
    assert_eq!(matches(&mut f, r"(\W|^)[\w.\-]{0,25}\.(com|org)(\W|$)").unwrap(), [1, 0, 0, 0]);
    assert_eq!(matches(&mut f, r"\b\S{14}\b").unwrap(), [1, 0, 0, 0]);
    assert_eq!(matches(&mut f, "a|a\n").unwrap(), [0, 0, 1, 0]);
    for hostile in ["(", "a)|(b", "(a{1000}){1000}", &"(".repeat(1000)] {
        assert!(matches!(matches(&mut f, hostile), Err(HostError::Value { .. })), "{hostile}");
    }
}

#[test]
fn elements_are_found_by_value() {
    let mut f = Fixture::new();
    let f32s = |values: &[f32]| HostTensor {
        dtype: DType::F32,
        dims: vec![values.len() as u64],
        data: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
    };
    let out = f
        .run(
            &IndexOf { required: false },
            &[f32s(&[2.0, -0.0, -f32::NAN, 9.0]), f32s(&[0.0, f32::NAN, 2.0, 2.0])],
        )
        .unwrap();
    assert_eq!(i64s(&out[0]), [2, 0, 1, -1]);
    let (x, keys) = (f.strings(&[2], &["b", "z"]), f.strings(&[2], &["a", "b"]));
    let out = f.run(&IndexOf { required: false }, &[x.clone(), keys.clone()]).unwrap();
    assert_eq!(i64s(&out[0]), [1, -1]);
    let error = f.run(&IndexOf { required: true }, &[x, keys]).unwrap_err();
    assert_eq!(error.to_string(), "`index_of.1`: element 1 is not among the 2 known ones");
}

#[test]
fn ranks_follow_the_text() {
    let mut f = Fixture::new();
    let x = f.strings(&[2, 2], &["pear", "apple", "pear", ""]);
    let out = f.run(&StringRank, &[x]).unwrap();
    assert_eq!((i64s(&out[0]), out[0].dims.as_slice()), (vec![2, 1, 2, 0], &[2, 2][..]));
}

#[test]
fn n_grams_are_counted_at_every_distance() {
    let mut f = Fixture::new();
    let i64s = |values: &[i64]| HostTensor {
        dtype: DType::I64,
        dims: vec![values.len() as u64],
        data: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
    };
    let x = i64s(&[1, 1, 3, 3, 3, 7, 8, 6, 7, 5, 6, 8]);
    let pool = i64s(&[2, 3, 5, 4, 5, 6, 7, 8, 6, 7]);
    let mut count = CountNgrams {
        min_length: 2,
        max_length: 2,
        max_skip: 5,
        starts: vec![0, 4],
        columns: (0..7).collect(),
        size: 7,
    };
    let expect = |out: Vec<HostTensor>, expected: &[f32]| {
        let found: Vec<f32> = out[0].data.as_chunks().0.iter().map(|w| f32::from_le_bytes(*w)).collect();
        assert_eq!(found, expected);
    };
    let operands = [x, pool];
    expect(f.run(&count, &operands).unwrap(), &[0.0, 0.0, 0.0, 0.0, 1.0, 3.0, 1.0]);
    count.min_length = 1;
    expect(f.run(&count, &operands).unwrap(), &[0.0, 3.0, 1.0, 0.0, 1.0, 3.0, 1.0]);
    count.size = 6;
    assert!(f.run(&count, &operands).is_err());
    count = CountNgrams { size: u64::MAX, ..count };
    assert!(matches!(f.run(&count, &operands), Err(HostError::Memory { .. })));
}

#[test]
fn numbers_are_written_as_numpy_does() {
    let mut f = Fixture::new();
    let mut write = |dtype: DType, data: &[u8]| {
        let dims = vec![(data.len() / dtype.bytes()) as u64];
        let out = f.run(&Format, &[HostTensor { dtype, dims, data: data.to_vec() }]).unwrap();
        f.texts(&out[0]).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let f32s = [0.1f32, 1.0, -0.0, 1e16, 123_456_790.0, 1e-5, 0.0001, 3.4e38, f32::NAN, -f32::INFINITY];
    let data: Vec<u8> = f32s.iter().flat_map(|v| v.to_le_bytes()).collect();
    let expected =
        ["0.1", "1.0", "-0.0", "1e+16", "123456790.0", "1e-05", "0.0001", "3.4e+38", "nan", "-inf"];
    assert_eq!(write(DType::F32, &data), expected);
    assert_eq!(write(DType::F64, &1.234e-100f64.to_le_bytes()), ["1.234e-100"]);
    assert_eq!(write(DType::F16, &0x2e66u16.to_le_bytes()), ["0.1"]);
    assert_eq!(write(DType::BF16, &0x4049u16.to_le_bytes()), ["3.140625"]);
    assert_eq!(write(DType::I8, &[0xff]), ["-1"]);
    assert_eq!(write(DType::Bool, &[1, 0]), ["True", "False"]);
}

#[test]
fn numbers_are_read_and_what_is_none_is_named() {
    let mut f = Fixture::new();
    let x = f.strings(&[5], &["1e-5", " 2 ", "-INF", "NaN", ".5"]);
    let out = f.run(&Parse { to: DType::F32 }, &[x]).unwrap();
    let found: Vec<f32> = out[0].data.as_chunks().0.iter().map(|w| f32::from_le_bytes(*w)).collect();
    assert_eq!(found[..3], [1e-5, 2.0, -f32::INFINITY]);
    assert!(found[3].is_nan() && found[4] == 0.5);
    let x = f.strings(&[1], &["300"]);
    let error = f.run(&Parse { to: DType::U8 }, &[x]).unwrap_err();
    assert_eq!(error.to_string(), "`parse.1`: \"300\" is no u8");
}

#[test]
fn images_become_pixels() {
    let mut f = Fixture::new();
    let ppm = b"P6 2 1 255\n\x01\x02\x03\x04\x05\x06".to_vec();
    let x = HostTensor { dtype: DType::U8, dims: vec![ppm.len() as u64], data: ppm };
    let mut decode = |pixels| f.run(&DecodeImage { pixels }, std::slice::from_ref(&x)).unwrap().remove(0);
    assert_eq!(decode(PixelFormat::Rgb).data, [1, 2, 3, 4, 5, 6]);
    assert_eq!(decode(PixelFormat::Bgr).data, [3, 2, 1, 6, 5, 4]);
    let gray = decode(PixelFormat::Grayscale);
    assert_eq!((gray.data, gray.dims), (vec![2, 5], vec![1, 2, 1]));
}

#[test]
fn an_image_that_says_it_is_huge_is_refused() {
    let mut f = Fixture::new();
    for data in
        [&b"P6 65000 65000 255\n"[..], b"P6 4000000000 1 255\n", b"what", b"", b"\xff\x4f\xff\x51\0\x29"]
    {
        let x = HostTensor { dtype: DType::U8, dims: vec![data.len() as u64], data: data.to_vec() };
        assert!(f.run(&DecodeImage { pixels: PixelFormat::Rgb }, &[x]).is_err());
    }
}

#[test]
fn unknown_functions_and_foreign_attributes_are_named() {
    let mut strings = StringTable::default();
    let mut call = HostCall::new(&RegexFullMatch { pattern: "a".to_owned() });
    call.attributes.truncate(1);
    assert_eq!(
        run(&call, &[], &mut strings, Limits::default()).unwrap_err(),
        HostError::Attributes { name: "regex_full_match.1".to_owned() }
    );
    call.function = "regex_full_match.9".to_owned();
    let error = run(&call, &[], &mut strings, Limits::default()).unwrap_err();
    assert_eq!(error.to_string(), "there is no host function `regex_full_match.9`");
}

#[test]
fn a_call_that_nobody_waits_for_ends_between_elements() {
    let mut f = Fixture::new();
    let texts: Vec<String> = (0..1000).map(|i| format!("{i:01000}")).collect();
    let x = f.strings(&[1000], &texts.iter().map(String::as_str).collect::<Vec<_>>());
    let calls = [
        (HostCall::new(&StringConcat), vec![&x, &x]),
        (HostCall::new(&RegexFullMatch { pattern: "a*".to_owned() }), vec![&x]),
        (HostCall::new(&StringSplit { delimiter: None, max_splits: None }), vec![&x]),
        (HostCall::new(&StringRank), vec![&x]),
    ];
    for (call, operands) in calls {
        let views: Vec<TensorView<'_>> = operands.into_iter().map(HostTensor::view).collect();
        let asked = std::cell::Cell::new(0);
        let stop = || asked.replace(asked.get() + 1) == 2;
        let before = f.strings.len();
        let error = run_until(&stop, &call, &views, &mut f.strings, Limits::default()).unwrap_err();
        assert_eq!(error, HostError::Stopped { function: call.function.clone() });
        assert_eq!(asked.get(), 3);
        assert!(f.strings.len() - before < 500, "{}", call.function);
    }
    // A call that is waited for ends by itself.
    let views = [x.view()];
    assert!(
        run_until(&|| false, &HostCall::new(&StringRank), &views, &mut f.strings, Limits::default()).is_ok()
    );
}

proptest! {
    /// No bytes of attributes or operands make any function panic, or give tensors that are not what they say.
    #[test]
    fn nothing_panics(
        function in 0..FUNCTIONS.len(),
        attributes in prop::collection::vec(any::<u8>(), 0..24),
        operands in prop::collection::vec((0..DType::ALL.len(), prop::collection::vec(0..5u64, 0..3), any::<u8>()), 0..3),
    ) {
        let mut strings = StringTable::default();
        for text in [&b"a b"[..], b"\xff", b"1e5", b"BM\0\0"] {
            strings.intern(text).unwrap();
        }
        let operands: Vec<HostTensor> = operands
            .into_iter()
            .map(|(dtype, dims, fill)| {
                let dtype = DType::ALL[dtype];
                let bytes = dims.iter().product::<u64>() as usize * dtype.bytes();
                let data = (0..bytes).map(|i| if i % dtype.bytes() == 0 { fill % 7 } else { 0 }).collect();
                HostTensor { dtype, dims, data }
            })
            .collect();
        let views: Vec<TensorView<'_>> = operands.iter().map(HostTensor::view).collect();
        let call = HostCall { function: FUNCTIONS[function].name.to_owned(), attributes };
        let limits = Limits { bytes: 1 << 20, steps: 1 << 20 };
        if let Ok(results) = run(&call, &views, &mut strings, limits) {
            for result in results {
                let elements: u64 = result.dims.iter().product();
                prop_assert_eq!(elements * result.dtype.bytes() as u64, result.data.len() as u64);
            }
        }
    }
}
