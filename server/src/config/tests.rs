//! Settings from files, the environment and flags.

use std::path::PathBuf;

use ired_worker::Cores;

use super::layers::{names, variable};
use super::{AcceptModules, Arguments, Loaded, RequireSandbox, Settings};

/// Settings of a file with this text, of these variables, and flags.
fn load(text: &str, variables: &[(&str, &str)], flags: Arguments) -> Result<Loaded, String> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ired.toml");
    std::fs::write(&file, text).unwrap();
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let loaded = Loaded::from_parts(&Arguments { config: Some(file.clone()), ..flags }, variables);
    loaded.map_err(|error| {
        format!("{:#}", anyhow::Error::from(error)).replace(&file.display().to_string(), "F")
    })
}

fn error_of(text: &str) -> String {
    load(text, &[], Arguments::default()).unwrap_err()
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let flags = Arguments { http: Some("127.0.0.1:9".to_owned()), ..Arguments::default() };
    let file = "http = \"127.0.0.1:1\"\ngrpc = \"127.0.0.1:2\"\nqueue_limit = 7\nlog = \"debug\"\n";
    let variables = [("IRED_HTTP", "127.0.0.1:5"), ("IRED_QUEUE_LIMIT", "8"), ("HOME", "/")];
    let loaded = load(file, &variables, flags).unwrap();
    let settings = &loaded.settings;
    assert_eq!((settings.http.as_str(), settings.grpc.as_str()), ("127.0.0.1:9", "127.0.0.1:2"));
    assert_eq!((settings.queue_limit, settings.log.as_str()), (8, "debug"));
    let shown = loaded.show();
    let origin = |name: &str| {
        let line = shown.lines().find(|line| line.starts_with(&format!("{name} ="))).unwrap();
        line.split_once('#').unwrap().1.trim().to_owned()
    };
    assert_eq!(origin("http"), "--http");
    assert_eq!(origin("queue_limit"), "environment variable IRED_QUEUE_LIMIT");
    assert!(origin("log").ends_with("ired.toml:4:7"), "{}", origin("log"));
    assert_eq!(origin("drain_s"), "default");
}

#[test]
fn what_is_shown_is_a_settings_file() {
    let flags =
        Arguments { set: vec!["auth.open=[\"health\", \"metrics\"]".to_owned()], ..Arguments::default() };
    let loaded = load("[tls]\ncertificate = 'c\"'\nkey = \"k\"\n", &[], flags).unwrap();
    let again = load(&loaded.show(), &[], Arguments::default()).unwrap();
    assert_eq!(format!("{:?}", loaded.settings), format!("{:?}", again.settings));
    assert_eq!(again.settings.tls.certificate, Some(PathBuf::from("c\"")));
    assert_eq!(again.settings.auth.open.len(), 2);
}

#[test]
fn all_problems_are_told_at_once_with_their_place() {
    let error =
        error_of("queue_limits = 7\n\n  drain_s = \"soon\"\n[tls]\ncertifcate = \"x\"\n[tsl]\nkey = 1\n");
    let lines: Vec<&str> = error.lines().collect();
    assert_eq!(lines[0], "F:1:1: `queue_limits` is no setting; is it `queue_limit`?");
    assert!(lines.contains(&"F:5:1: `tls.certifcate` is no setting; is it `tls.certificate`?"), "{error}");
    assert!(lines.iter().any(|line| line.starts_with("F:3:13: setting `drain_s`: invalid type")), "{error}");
    assert!(lines.iter().any(|line| line.starts_with("F:6:2: `tsl` is no setting")), "{error}");
    assert_eq!(lines.len(), 4, "{error}");
    assert!(
        error_of("log = \"a\"\nlog = \"b\"\n").starts_with("F:2:1: "),
        "{}",
        error_of("log = \"a\"\nlog = \"b\"\n")
    );
    assert!(error_of("log = \n").starts_with("F:1:"), "{}", error_of("log = \n"));
}

#[test]
fn each_door_has_its_own_address() {
    let error = error_of("http = \"127.0.0.1:9\"\ngrpc = \"127.0.0.1:9\"\n");
    assert!(error.contains("`http` and `grpc`") && error.contains("127.0.0.1:9"), "{error}");
}

#[test]
fn levels_take_the_words_of_earlier_files() {
    let settings = load("require_strict_sandbox = true\naccept_modules = true\n", &[], Arguments::default());
    let settings = settings.unwrap().settings;
    assert_eq!(settings.require_sandbox, RequireSandbox::Strict);
    assert_eq!(settings.accept_modules, AcceptModules::Unsigned);
    let settings =
        load("accept_modules = \"signed\"\n", &[("IRED_REQUIRE_SANDBOX", "baseline")], Arguments::default());
    let settings = settings.unwrap().settings;
    assert_eq!(settings.require_sandbox, RequireSandbox::Baseline);
    assert_eq!(settings.accept_modules, AcceptModules::Signed);
    let error = error_of("require_sandbox = \"most\"\n");
    assert!(error.contains("found `most`, expected `none`, `baseline` or `strict`"), "{error}");
}

#[test]
fn a_table_of_tls_makes_sense_or_is_refused() {
    for (text, expected) in [
        ("[tls]\ncertificate = \"c\"\n", "`tls.key` is missing"),
        ("[tls]\nkey = \"c\"\n", "`tls.certificate` is missing"),
        ("[tls]\nclient_ca = \"c\"\n", "`tls.certificate` is missing"),
        (
            "[tls]\ncertificate=\"c\"\nkey=\"k\"\nrequire_client_certificate=true\n",
            "`tls.client_ca` is missing",
        ),
    ] {
        let error = error_of(text);
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn failures_count_for_some_time_or_not_at_all() {
    let error = error_of("[auth]\nfailures_window_s = 0\n");
    assert!(error.contains("`auth.failures_window_s` is 0; it is from 1 to 86400"), "{error}");
    load("[auth]\nfailures_window_s = 0\nfailures = 0\n", &[], Arguments::default()).unwrap();
}

#[test]
fn the_table_of_the_shared_cache_makes_sense_or_is_refused() {
    for (text, expected) in [
        ("[shared_cache]\nkey = \"k\"\n", "its `url` is missing"),
        ("[shared_cache]\nurl = \"s3://b\"\nlease_s = 0\n", "`shared_cache.lease_s` is 0"),
        ("[shared_cache]\nurl = \"s3://b\"\ntimeout_s = 0\n", "`shared_cache.timeout_s` is 0"),
    ] {
        let error = error_of(text);
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn every_setting_has_a_variable_of_its_own() {
    let names = names(&Settings::default());
    let variables: std::collections::BTreeSet<String> = names.iter().map(|name| variable(name)).collect();
    assert_eq!(variables.len(), names.len());
    assert!(names.contains(&"model_repository".to_owned()) && names.contains(&"tls.client_ca".to_owned()));
}

#[test]
fn device_groups_come_together_from_all_places() {
    // What this process may use, so that the settings are sound.
    let core = Cores::allowed().unwrap().to_string();
    let core = core.split(['-', ',']).next().unwrap();
    let file = format!("[device_groups]\nnuma0 = \"{core}\"\n  fast = \"{core},{core}\"\n");
    let variable = format!("{{ numa1 = \"{core}\", fast = \"{core}-{core}\" }}");
    let pair = format!("late={core}");
    let flags = Arguments {
        device_group: vec![pair.clone()],
        set: vec![format!("device_groups.numa1={core}")],
        ..Arguments::default()
    };
    let loaded = load(&file, &[("IRED_DEVICE_GROUPS", &variable)], flags).unwrap();
    let shown = loaded.show();
    let origin = |name: &str| {
        let line = format!("device_groups.{name} = \"{core}\" ");
        let line = shown.lines().find(|found| found.starts_with(&line)).unwrap_or_else(|| panic!("{shown}"));
        line.split_once('#').unwrap().1.trim().to_owned()
    };
    assert!(origin("numa0").ends_with("ired.toml:2:9"), "{}", origin("numa0"));
    assert_eq!(origin("fast"), "environment variable IRED_DEVICE_GROUPS");
    assert_eq!(origin("numa1"), format!("--set device_groups.numa1={core}"));
    assert_eq!(origin("late"), format!("--device-group {pair}"));
    let again = load(&shown, &[], Arguments::default()).unwrap();
    assert_eq!(again.settings.device_groups, loaded.settings.device_groups);
    let none = load("[device_groups]\n", &[], Arguments::default()).unwrap().show();
    assert!(none.contains("\ndevice_groups = {} "), "{none}");
}

#[test]
fn what_is_wrong_with_a_device_group_is_told_with_its_place() {
    let allowed = Cores::allowed().unwrap();
    let error = error_of("[device_groups]\na = \"0-\"\nb = \"\"\nc = 3\n\"d e\" = \"0\"\n");
    let expected = "expected numbers and ranges, such as `0-3,8`";
    let names = "names of device groups have letters, digits, `-` and `_` only";
    let lines: Vec<&str> = error.lines().collect();
    assert_eq!(lines[0], format!("F:2:5: setting `device_groups.a`: found `0-`, {expected}"));
    assert_eq!(lines[1], format!("F:3:5: setting `device_groups.b`: found no core, {expected}"));
    assert!(lines[2].starts_with("F:4:5: setting `device_groups.c`: invalid type: integer"), "{error}");
    assert_eq!(lines[3], format!("F:5:1: `device_groups.d e` is no setting; {names}"));
    assert!(error_of("device_groups = 3\n").starts_with("F:1:17: setting `device_groups`: invalid type"));
    let error = error_of("[device_groups]\nbig = \"1023\"\n");
    let found = "found `1023`; of these 1023 may not be used here, only";
    assert_eq!(error, format!("F:2:7: setting `device_groups.big`: {found} {allowed} may"));
    for (pair, told) in [
        ("numa0", "--device-group numa0: expected NAME=CORES"),
        ("numa0=x", "--device-group numa0=x: setting `device_groups.numa0`: found `x`"),
    ] {
        let flags = Arguments { device_group: vec![pair.to_owned()], ..Arguments::default() };
        let error = load("", &[], flags).unwrap_err();
        assert!(error.starts_with(told), "{error}");
    }
}

#[test]
fn a_variable_that_is_nearly_a_setting_is_told() {
    let variables = [("IRED_QUEU_LIMIT", "8"), ("IRED_SERVICE_HOST", "10.0.0.1"), ("IRED_SERVER", "x")];
    let loaded = load("", &variables, Arguments::default()).unwrap();
    assert_eq!(
        loaded.warnings,
        ["environment variable IRED_QUEU_LIMIT is no setting; is it IRED_QUEUE_LIMIT?"]
    );
}

#[test]
fn the_standard_variables_name_the_collector_of_traces() {
    let endpoint = |text: &str, variables: &[(&str, &str)]| {
        load(text, variables, Arguments::default()).map(|loaded| loaded.settings.tracing.otlp_endpoint)
    };
    let (general, traces) =
        (("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:1"), ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://b:2"));
    let ours = ("IRED_TRACING_OTLP_ENDPOINT", "https://c:3");
    let file = "[tracing]\notlp_endpoint = \"http://d:4\"\n";
    let address = |address: &str| Ok(Some(address.to_owned()));
    assert_eq!(endpoint("", &[]), Ok(None));
    assert_eq!(endpoint("", &[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]), Ok(None));
    assert_eq!(endpoint(file, &[]), address("http://d:4"));
    assert_eq!(endpoint(file, &[general]), address("http://a:1"));
    assert_eq!(endpoint(file, &[traces, general]), address("http://b:2"));
    assert_eq!(endpoint(file, &[ours, traces, general]), address("https://c:3"));
    let wrong = endpoint("[tracing]\notlp_endpoint = \"localhost:4317\"\n", &[]).unwrap_err();
    assert!(
        wrong.contains("setting `tracing.otlp_endpoint` is `localhost:4317`, expected an address"),
        "{wrong}"
    );
}

#[test]
fn compilations_leave_half_of_the_memory_to_models() {
    let of =
        |text: &str| load(text, &[], Arguments::default()).map(|loaded| loaded.settings.compile_memory());
    assert_eq!(of("memory_bytes = 1000"), Ok(250));
    assert_eq!(of("memory_bytes = 1000\ncompile_slots = 1"), Ok(500));
    assert_eq!(of("memory_bytes = 1000\ncompile_memory_bytes = 900"), Ok(900));
    let error = of("memory_bytes = 1000\ncompile_memory_bytes = 1001").unwrap_err();
    assert!(error.contains("`compile_memory_bytes` is 1001, more than `memory_bytes` (1000)"), "{error}");
}
