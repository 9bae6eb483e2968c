//! The instances of one loaded module: a process for each device group that its configuration names, or one.

use std::cmp::Ordering;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use futures::FutureExt;
use futures::future::{BoxFuture, join_all, try_join_all};
use ired_worker::{Cores, InferenceResult, InputBuffer, LoadedModule, RuntimeFailure, SandboxReport, Tensor};
use tokio::runtime::Handle;

use super::{Launcher, Runner};
use crate::error::Error;

/// What one process of a module has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InstanceGroup {
    /// Where it runs; `None`: on every core.
    pub device_group: Option<DeviceGroup>,
    /// Executions in it at once; `None`: as many as keep it busy.
    pub count: Option<usize>,
}

/// Cores that have a name in the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceGroup {
    pub name: String,
    pub cores: Cores,
}

/// One process as it is now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Process {
    pub group: InstanceGroup,
    /// While there is one.
    pub pid: Option<u32>,
    pub restarts: u64,
}

/// Runs each request where there is the most room for its count, among processes that live.
pub(crate) struct Instances {
    /// Of each, with the memory of all.
    module: LoadedModule,
    instances: Vec<(InstanceGroup, Arc<dyn Runner>)>,
    loads: Mutex<Loads>,
}

/// What each process has to do.
#[derive(Debug)]
struct Loads {
    loads: Vec<Load>,
    /// Counts choices.
    clock: u64,
}

#[derive(Clone, Copy, Debug)]
struct Load {
    count: usize,
    inside: usize,
    /// Greater for what was chosen later.
    chosen: u64,
}

/// A request that is inside a process while this is held.
struct Inside<'a> {
    instances: &'a Instances,
    at: usize,
}

impl Instances {
    /// Starts a process for each group; there is at least one.
    ///
    /// # Errors
    /// Of the first that cannot be started; the others end.
    pub(crate) async fn launch(
        launcher: &dyn Launcher,
        module: impl Fn() -> Result<OwnedFd, Error>,
        groups: &[InstanceGroup],
    ) -> Result<Self, Error> {
        let launches = groups.iter().map(|group| {
            let cores = group.device_group.as_ref().map(|group| &group.cores);
            Ok(launcher.launch(module()?, cores.cloned()))
        });
        let runners = try_join_all(launches.collect::<Result<Vec<_>, Error>>()?).await?;
        let Some((first, others)) = runners.split_first() else {
            return Err(RuntimeFailure::Load { message: "it is to have no process".to_owned() }.into());
        };
        let mut module = first.module().clone();
        // What is mapped from the module's file is there once.
        module.resident_bytes += others.iter().map(|other| other.module().private_bytes).sum::<u64>();
        let counts = groups.iter().map(|group| group.count.unwrap_or(1));
        let loads = Mutex::new(Loads::new(counts));
        Ok(Self { module, instances: groups.iter().cloned().zip(runners).collect(), loads })
    }

    pub(crate) fn processes(&self) -> Vec<Process> {
        let process = |(group, runner): &(InstanceGroup, Arc<dyn Runner>)| Process {
            group: group.clone(),
            pid: runner.pid(),
            restarts: runner.restarts(),
        };
        self.instances.iter().map(process).collect()
    }

    /// The process for the next request, which is inside it from now on.
    fn enter(&self) -> (&dyn Runner, Inside<'_>) {
        let at = self.lock().enter(|at| self.lives(at));
        (&*self.instances[at].1, Inside { instances: self, at })
    }

    /// The process that the next request would go to.
    fn next(&self) -> &dyn Runner {
        &*self.instances[self.lock().next(|at| self.lives(at))].1
    }

    fn lives(&self, at: usize) -> bool {
        self.instances.len() == 1 || self.instances[at].1.pid().is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Loads> {
        self.loads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Loads {
    fn new(counts: impl Iterator<Item = usize>) -> Self {
        let load = |count: usize| Load { count: count.max(1), inside: 0, chosen: 0 };
        Self { loads: counts.map(load).collect(), clock: 0 }
    }

    /// The emptiest for its count; of equals the one that was chosen longest ago.
    fn next(&self, lives: impl Fn(usize) -> bool) -> usize {
        let ranked = self.loads.iter().enumerate().map(|(at, load)| (!lives(at), load, at));
        let first = ranked.min_by(|(a_is_dead, a, _), (b_is_dead, b, _)| {
            a_is_dead.cmp(b_is_dead).then(a.fullness(b)).then(a.chosen.cmp(&b.chosen))
        });
        first.map_or(0, |(_, _, at)| at)
    }

    fn enter(&mut self, lives: impl Fn(usize) -> bool) -> usize {
        let at = self.next(lives);
        self.clock += 1;
        self.loads[at].inside += 1;
        self.loads[at].chosen = self.clock;
        at
    }

    fn leave(&mut self, at: usize) {
        self.loads[at].inside -= 1;
    }
}

impl Load {
    fn fullness(&self, other: &Self) -> Ordering {
        (self.inside * other.count).cmp(&(other.inside * self.count))
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.instances.lock().leave(self.at);
    }
}

impl Runner for Instances {
    fn module(&self) -> &LoadedModule {
        &self.module
    }

    fn infer<'a>(
        &'a self,
        entry: &'a str,
        inputs: Vec<Tensor>,
        deadline: Option<Instant>,
        profile: bool,
    ) -> BoxFuture<'a, Result<InferenceResult, RuntimeFailure>> {
        async move {
            let (runner, _inside) = self.enter();
            runner.infer(entry, inputs, deadline, profile).await
        }
        .boxed()
    }

    fn runtime(&self) -> Handle {
        self.next().runtime()
    }

    fn peak<'a>(
        &'a self,
        entry: &'a str,
        dims: Vec<Vec<u64>>,
        deadline: Option<Instant>,
    ) -> BoxFuture<'a, Result<u64, RuntimeFailure>> {
        self.next().peak(entry, dims, deadline)
    }

    /// Of several none, as it is not known yet which of them it will be.
    fn input_buffer(&self, bytes: usize) -> Option<InputBuffer> {
        match &self.instances[..] {
            [(_, runner)] => runner.input_buffer(bytes),
            _ => None,
        }
    }

    fn pid(&self) -> Option<u32> {
        self.instances.iter().find_map(|(_, runner)| runner.pid())
    }

    fn restarts(&self) -> u64 {
        self.instances.iter().map(|(_, runner)| runner.restarts()).sum()
    }

    fn sandbox(&self) -> SandboxReport {
        self.next().sandbox()
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        join_all(self.instances.iter().map(|(_, runner)| runner.shutdown())).map(drop).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(loads: &mut Loads, times: usize, lives: impl Fn(usize) -> bool) -> Vec<usize> {
        (0..times).map(|_| loads.enter(&lives)).collect()
    }

    #[test]
    fn a_request_goes_where_there_is_the_most_room_for_its_count() {
        let mut loads = Loads::new([1, 3].into_iter());
        let mut places = enter(&mut loads, 4, |_| true);
        places.sort_unstable();
        assert_eq!(places, [0, 1, 1, 1], "as many as there are places");
        loads.leave(0);
        assert_eq!(loads.enter(|_| true), 0, "the only free place");
        loads.leave(1);
        loads.leave(1);
        assert_eq!(enter(&mut loads, 2, |_| true), [1, 1]);
    }

    #[test]
    fn equals_take_turns() {
        let mut loads = Loads::new([2, 2, 2].into_iter());
        let one_by_one = |loads: &mut Loads| {
            let at = loads.enter(|_| true);
            loads.leave(at);
            at
        };
        let chosen: Vec<usize> = (0..6).map(|_| one_by_one(&mut loads)).collect();
        assert_eq!(chosen, [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn what_has_no_process_gets_requests_only_where_none_has() {
        let mut loads = Loads::new([1, 1].into_iter());
        assert_eq!(enter(&mut loads, 3, |at| at == 1), [1, 1, 1]);
        assert_eq!(enter(&mut loads, 2, |_| false), [0, 0]);
    }
}
