//! What happens to the object store costs compilations, and never an answer.

use std::collections::BTreeMap;

use crate::compile::compile;
use crate::object_server::{Fault, ObjectServer};
use crate::shared_cache::Replica;

/// A model that a replica put into the store, and another replica that has not seen it.
async fn stored() -> (ObjectServer, Replica) {
    let server = ObjectServer::start().await;
    let one = Replica::start(&server, |_| ()).await;
    one.serve("m", "").await;
    one.daemon.stop().await;
    let two = Replica::start(&server, |_| ()).await;
    (server, two)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_does_not_answer_costs_no_model_and_soon_no_time() {
    for fault in [Fault::Broken, Fault::Silent] {
        let (server, two) = stored().await;
        server.set_fault(fault);
        assert!(!two.serve("m", "").await, "{fault:?}");
        for i in 0..3 {
            assert!(!two.serve(&format!("m{i}"), "").await, "{fault:?}");
        }
        two.until_metric("ired_shared_cache_up", 0.0).await;
        // From here on only what looks after the store asks it, ever more rarely.
        let before = server.requests();
        for i in 10..40 {
            assert!(!two.serve(&format!("m{i}"), "").await, "{fault:?}");
        }
        let asked = server.requests() - before;
        assert!(asked <= 20, "{fault:?}: {asked} requests for 30 models");
        assert_eq!(two.compiles(), 34);

        server.set_fault(Fault::None);
        two.until_metric("ired_shared_cache_up", 1.0).await;
        two.serve("after", "").await;
        two.until_metric("ired_shared_cache_uploads_total{outcome=\"ok\"}", 1.0).await;
        two.daemon.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_refuses_everything_costs_no_model() {
    let (server, two) = stored().await;
    server.set_fault(Fault::Forbidden);
    for i in 0..5 {
        assert!(!two.serve(&format!("m{i}"), "").await);
    }
    two.until_metric("ired_shared_cache_uploads_total{outcome=\"failed\"}", 5.0).await;
    server.set_fault(Fault::None);
    assert!(two.serve("m", "").await, "it is asked again");
    two.daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_cannot_be_reached_costs_no_model_and_is_used_when_it_can() {
    let (mut server, two) = stored().await;
    server.stop();
    for i in 0..5 {
        assert!(!two.serve(&format!("m{i}"), "").await);
    }
    two.until_metric("ired_shared_cache_up", 0.0).await;
    server.restart().await;
    two.until_metric("ired_shared_cache_up", 1.0).await;
    assert!(two.serve("m", "").await, "the store has it");
    two.daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_wrong_late_or_cut_is_compiled() {
    for fault in [Fault::Lying, Fault::Short, Fault::Torn, Fault::Dripping, Fault::Stale] {
        let (server, two) = stored().await;
        server.set_fault(fault);
        assert!(!two.serve("m", "").await, "{fault:?}");
        assert_eq!(two.compiles(), 1);
        let refused = two.metric("ired_shared_cache_refused_total").await;
        let expected = f64::from(u8::from(matches!(fault, Fault::Lying | Fault::Short)));
        assert_eq!(refused, expected, "{fault:?}");
        two.client.infer(crate::scripted::request("m")).await.unwrap();
        server.set_fault(Fault::None);
        two.daemon.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_in_the_store_is_replaced() {
    let (server, two) = stored().await;
    let names = server.names("a/b/modules/");
    let good = server.object(&names[0]).unwrap();
    server.put(&names[0], good.slice(..good.len() - 1));
    assert!(!two.serve("m", "").await);
    two.daemon.stop().await;
    // Times of the compilation differ.
    assert_ne!(server.object(&names[0]).unwrap().len(), good.len() - 1);
    let three = Replica::start(&server, |_| ()).await;
    assert!(three.serve("m", "").await);
    three.daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_passes_over_conditions_is_named_and_used_without_leases() {
    let server = ObjectServer::start().await;
    server.set_fault(Fault::Unconditional);
    let one = Replica::start(&server, |_| ()).await;
    assert!(!one.serve("m", "").await);
    one.stored(1).await;
    let two = Replica::start(&server, |_| ()).await;
    assert!(two.serve("m", "").await);
    assert!(server.puts("a/b/leases/").keys().all(|name| name.contains("trial")), "no lease was asked for");
    one.daemon.stop().await;
    two.daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_has_the_secret_puts_what_is_taken() {
    let (server, two) = stored().await;
    two.daemon.stop().await;
    let key = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(key.path(), "0123456789abcdef0123456789abcdef").unwrap();
    let with_key =
        || Replica::start(&server, |settings| settings.shared_cache.key = Some(key.path().to_owned()));
    let three = with_key().await;
    assert!(!three.serve("m", "").await, "what was put without the secret is not taken");
    assert_eq!(three.metric("ired_shared_cache_refused_total").await, 1.0);
    three.daemon.stop().await;
    let four = with_key().await;
    assert!(four.serve("m", "").await, "it was replaced by one with it");
    four.daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shared_module_that_does_not_load_is_compiled_and_not_fetched_again() {
    let server = ObjectServer::start().await;
    let one = Replica::start(&server, |_| ()).await;
    one.push("m", "unloadable-once").await;
    compile(&one.client, "m").await.unwrap();
    one.daemon.stop().await;
    let two = Replica::start(&server, |_| ()).await;
    two.push("m", "unloadable-once").await;
    two.client.load("m").await.unwrap();
    assert_eq!((two.compiles(), two.world.seen().launches_refused), (1, 1));
    two.daemon.stop().await;
    let puts: BTreeMap<String, u64> = server.puts("a/b/modules/");
    assert_eq!(puts.into_values().collect::<Vec<_>>(), [2], "the new one replaced the old one");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_takes_no_modules_fails_no_load() {
    let (_server, two) = stored().await;
    let modules = two.place.settings.data_dir.join("modules");
    std::fs::remove_dir_all(modules.join("pending")).unwrap();
    assert!(two.serve("m", "").await, "it came from the store, into memory");
    assert!(!two.serve("n", "").await, "it was compiled, into memory");
    assert!(compile(&two.client, "n").await.unwrap().cached, "it is there while it is loaded");
    two.client.infer(crate::scripted::request("n")).await.unwrap();
    two.client.unload("n").await.unwrap();
    assert!(two.serve("n", "").await, "the store had it");
    assert_eq!(two.compiles(), 1);
    two.daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_of_the_shared_cache_make_sense_or_are_refused() {
    let server = ObjectServer::start().await;
    for (url, option, expected) in [
        ("bucket", "", "found `bucket`, expected `s3://BUCKET/PREFIX`"),
        ("ftp://x/y", "", "found `ftp://x/y`, expected"),
        ("s3:///x", "", "found `s3:///x`, expected"),
        ("file://here", "", "`here` is no absolute path"),
        ("s3://b", "AWS_ENDPOIN=http://x", "`aws_endpoin` is no option of `s3:` stores"),
        ("s3://b", "nothing", "found `nothing`, expected NAME=VALUE"),
    ] {
        let place = crate::scripted::Place::new(&[]);
        let mut settings = place.settings.clone();
        settings.shared_cache.url = Some(url.to_owned());
        settings.shared_cache.options =
            [option].iter().filter(|o| !o.is_empty()).map(|o| o.to_string()).collect();
        let place = crate::scripted::Place { settings, ..place };
        let error = place.try_start(&crate::scripted::World::new()).await.err().unwrap();
        assert!(format!("{error:#}").contains(expected), "{error:#}");
    }
    assert_eq!(server.requests(), 0);
}
