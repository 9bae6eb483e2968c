//! What goes wrong: one function for each scenario.

mod clients;
mod clock;
mod disk;
mod life;
mod models;
mod store;
mod workers;

use anyhow::Result;
use futures::future::{BoxFuture, FutureExt};

use super::stage::{Stage, Wishes};

/// One way in which things go wrong.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    /// How the daemon is to be started; or why it cannot be played on this machine.
    pub(crate) wishes: fn(&mut Stage) -> Result<Result<Wishes, String>>,
    pub(crate) play: for<'a> fn(&'a mut Stage) -> BoxFuture<'a, Result<()>>,
}

/// All of them, in the order in which they are played.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "runtime-kill",
        what: "runtime workers are killed at random",
        wishes: plain,
        play: |stage| workers::kill_runtime(stage).boxed(),
    },
    Scenario {
        name: "runtime-stop",
        what: "runtime workers are stopped for a while and go on",
        wishes: plain,
        play: |stage| workers::stop_runtime(stage).boxed(),
    },
    Scenario {
        name: "compile-kill",
        what: "compile workers are killed under pushes",
        wishes: plain,
        play: |stage| workers::kill_compilers(stage).boxed(),
    },
    Scenario {
        name: "disconnects",
        what: "clients go away in the middle of requests, at any moment",
        wishes: plain,
        play: |stage| clients::disconnects(stage).boxed(),
    },
    Scenario {
        name: "slow-readers",
        what: "clients ask much and hardly read",
        wishes: plain,
        play: |stage| clients::slow_readers(stage).boxed(),
    },
    Scenario {
        name: "half-open",
        what: "connections on which little or nothing comes",
        wishes: |_| Ok(Ok(clients::short_patience())),
        play: |stage| clients::half_open(stage).boxed(),
    },
    Scenario {
        name: "full-disk",
        what: "pushes until the data directory's disk is full, and once it is not",
        wishes: disk::wishes,
        play: |stage| disk::full(stage).boxed(),
    },
    Scenario {
        name: "sigterm",
        what: "the daemon is told to stop under load, and started again",
        wishes: plain,
        play: |stage| life::sigterm(stage).boxed(),
    },
    Scenario {
        name: "power-cut",
        what: "the daemon is killed right after it has acknowledged uploads",
        wishes: plain,
        play: |stage| life::power_cut(stage).boxed(),
    },
    Scenario {
        name: "clock",
        what: "the clock jumps by days, back and forth",
        wishes: clock::wishes,
        play: |stage| clock::jumps(stage).boxed(),
    },
    Scenario {
        name: "reloads",
        what: "a model is replaced 1000 times, and nobody notices",
        wishes: plain,
        play: |stage| models::reloads(stage).boxed(),
    },
    Scenario {
        name: "object-store",
        what: "the store of a cache that replicas share fails or lies, while models are replaced",
        wishes: store::wishes,
        play: |stage| store::faults(stage).boxed(),
    },
    Scenario {
        name: "broken-models",
        what: "models with something changed are pushed",
        wishes: plain,
        play: |stage| models::broken(stage).boxed(),
    },
];

#[expect(clippy::unnecessary_wraps, reason = "others have reasons not to be played")]
fn plain(_: &mut Stage) -> Result<Result<Wishes, String>> {
    Ok(Ok(Wishes::default()))
}
