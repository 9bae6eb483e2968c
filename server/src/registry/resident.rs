//! Loaded modules within the memory budget. The one that nobody has used for longest makes room for others and is
//! loaded again when it is asked for; never one that is in use, and none that its owner has pinned.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use ired_worker::{LoadedModule, SandboxReport};

use crate::engine::{InstanceGroup, Instances, Launcher, Process, Runner};
use crate::error::Error;
use crate::ledger::{Ledger, Reservation};
use crate::metrics::Counter;
use crate::schedule::{Refusal, Why};
use crate::store::StoreError;

/// How long a module or a request waits for others to be idle or gone, where its deadline is no earlier.
const PATIENCE: Duration = Duration::from_secs(5);

/// All loaded modules.
pub struct Residents {
    launcher: Arc<dyn Launcher>,
    ledger: Ledger,
    /// What compilations have of it, and how long one may have it.
    compiling: Ledger,
    compile_wall: Duration,
    known: Mutex<Vec<Weak<Resident>>>,
    /// Counts uses, so that the least recent is the least number.
    clock: AtomicU64,
    /// Of those who need a module and memory beside it, one at a time has a part and waits for the rest.
    completing: tokio::sync::Mutex<()>,
    /// Modules that made room for others.
    pub evicted: Counter,
    /// Modules that were loaded again.
    pub faulted: Counter,
}

/// A module that can be used, in memory or not.
pub struct Resident {
    model: String,
    residents: Arc<Residents>,
    module: LoadedModule,
    file: Arc<OwnedFd>,
    /// What each of its processes has.
    groups: Arc<[InstanceGroup]>,
    used: AtomicU64,
    pinned: AtomicBool,
    closed: AtomicBool,
    loaded: Mutex<Option<Arc<Loaded>>>,
    /// One load at a time.
    loading: tokio::sync::Mutex<()>,
}

struct Loaded {
    instances: Arc<Instances>,
    _room: Room,
}

/// Memory that somebody has. Whenever it goes, those who wait for some are told.
pub(crate) struct Room {
    memory: Reservation,
    /// As much, where it is a compilation's.
    compiling: Option<Reservation>,
    _change: Change,
}

/// A module that stays in memory while this is held.
pub struct Using {
    loaded: Arc<Loaded>,
    _change: Change,
}

/// Goes after what was held, and tells of it.
struct Change(Arc<Residents>);

/// Memory that is not to be had: the budget, and what of it is in use by what cannot go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shortage {
    pub(crate) needs: u64,
    pub(crate) budget: u64,
    pub(crate) in_use: u64,
}

impl Shortage {
    /// Of who wants to load a module.
    fn to_load(self, model: &str) -> Error {
        let Self { needs, budget, in_use } = self;
        Refusal::new(model, Why::Resident { needs, budget, in_use }, PATIENCE).into()
    }

    /// Of a request.
    pub(crate) fn to_run(self, model: &str) -> Error {
        let Self { needs, budget, in_use } = self;
        Refusal::new(model, Why::Memory { needs, budget, in_use }, PATIENCE).into()
    }
}

impl Residents {
    /// `compile_wall` is how long a compilation may take.
    pub fn new(launcher: Arc<dyn Launcher>, ledger: Ledger, compile_wall: Duration) -> Arc<Self> {
        Arc::new(Self {
            launcher,
            ledger,
            compiling: Ledger::new(u64::MAX),
            compile_wall,
            known: Mutex::default(),
            clock: AtomicU64::new(0),
            completing: tokio::sync::Mutex::default(),
            evicted: Counter::default(),
            faulted: Counter::default(),
        })
    }

    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Loads a module for the first time, in a process for each group.
    ///
    /// # Errors
    /// [`Error::Refused`] with the numbers when there is no room for it.
    pub async fn load(
        self: &Arc<Self>,
        model: &str,
        file: OwnedFd,
        groups: Arc<[InstanceGroup]>,
    ) -> Result<Arc<Resident>, Error> {
        // What it keeps is known once it is loaded; its parameters are most of the file.
        let guess = File::from(share(&file)?)
            .metadata()
            .map_err(StoreError::io("look at a module", "".as_ref()))?
            .len();
        let short = |shortage: Shortage| shortage.to_load(model);
        let mut room = self.make_room_to_load(guess).await.map_err(short)?;
        let instances = Instances::launch(&*self.launcher, || share(&file), &groups).await?;
        let module = instances.module().clone();
        if !room.resize(module.resident_bytes) {
            drop(room);
            room = self.make_room_to_load(module.resident_bytes).await.map_err(short)?;
        }
        let loaded = Loaded { instances: Arc::new(instances), _room: room };
        Ok(self.add(model, module, Arc::new(file), groups, Some(loaded)))
    }

    fn add(
        self: &Arc<Self>,
        model: &str,
        module: LoadedModule,
        file: Arc<OwnedFd>,
        groups: Arc<[InstanceGroup]>,
        loaded: Option<Loaded>,
    ) -> Arc<Resident> {
        let resident = Arc::new(Resident {
            model: model.to_owned(),
            residents: self.clone(),
            module,
            file,
            groups,
            used: AtomicU64::new(self.tick()),
            pinned: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            loaded: Mutex::new(loaded.map(Arc::new)),
            loading: tokio::sync::Mutex::default(),
        });
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|known| known.strong_count() > 0);
        known.push(Arc::downgrade(&resident));
        resident
    }

    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::Relaxed)
    }

    /// Takes memory; unloads others that are idle where that is needed.
    ///
    /// # Errors
    /// When there is not so much, now or until then.
    pub(crate) async fn make_room(self: &Arc<Self>, bytes: u64, until: Instant) -> Result<Room, Shortage> {
        let waiting = self.ledger.wait();
        loop {
            // Before looking, so that no change between is missed.
            let changed = waiting.changed();
            if let Ok(memory) = self.ledger.reserve(bytes) {
                return Ok(Room { memory, compiling: None, _change: Change(self.clone()) });
            }
            let shortage = match self.evict_one_for(bytes, 0).await {
                Ok(()) => continue,
                Err(shortage) => shortage,
            };
            if bytes > shortage.budget || tokio::time::timeout_at(until.into(), changed).await.is_err() {
                return Err(shortage);
            }
        }
    }

    /// As [`Self::make_room`], for a compilation.
    pub(crate) async fn make_room_to_compile(
        self: &Arc<Self>,
        bytes: u64,
        until: Instant,
    ) -> Result<Room, Shortage> {
        let mut room = self.make_room(bytes, until).await?;
        // There is always enough.
        room.compiling = self.compiling.reserve(bytes).ok();
        Ok(room)
    }

    /// As [`Self::make_room`], for a new module: where only compilations are in its way, it waits as long as one may take.
    async fn make_room_to_load(self: &Arc<Self>, bytes: u64) -> Result<Room, Shortage> {
        let since = Instant::now();
        loop {
            match self.make_room(bytes, Instant::now() + PATIENCE).await {
                Err(shortage) if since.elapsed() < self.compile_wall && self.is_of_compilations(shortage) => {
                }
                result => return result,
            }
        }
    }

    /// Whether there is enough once compilations have ended.
    fn is_of_compilations(&self, Shortage { needs, budget, in_use }: Shortage) -> bool {
        let (_, compiling) = self.compiling.usage();
        compiling > 0 && in_use.saturating_sub(compiling).saturating_add(needs) <= budget
    }

    /// Unloads the idle module that was not used for longest, if the idle ones together make room for so many bytes,
    /// with those that are in use for a while only.
    async fn evict_one_for(&self, bytes: u64, passing: u64) -> Result<(), Shortage> {
        let mut known: Vec<Arc<Resident>> = {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.iter().filter_map(Weak::upgrade).collect()
        };
        let (budget, in_use) = self.ledger.usage();
        let idle: u64 = known.iter().map(|resident| resident.idle_bytes()).sum();
        let in_use = in_use.saturating_sub(idle).saturating_sub(passing);
        let shortage = Shortage { needs: bytes, budget, in_use };
        if in_use.saturating_add(bytes) > budget {
            return Err(shortage);
        }
        known.sort_by_key(|resident| resident.last_use());
        for resident in known {
            if resident.evict().await {
                return Ok(());
            }
        }
        Err(shortage)
    }
}

impl Resident {
    pub fn module(&self) -> &LoadedModule {
        &self.module
    }

    /// The same module in processes of its own, which its first use starts.
    pub(super) fn apart(&self) -> Arc<Self> {
        let (module, file, groups) = (self.module.clone(), self.file.clone(), self.groups.clone());
        self.residents.add(&self.model, module, file, groups, None)
    }

    /// Keeps it in memory from now on.
    pub fn pin(&self) {
        self.pinned.store(true, Ordering::Release);
    }

    pub(super) fn is_loaded(&self) -> bool {
        self.lock().is_some()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Greater for what was used later.
    pub(super) fn last_use(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Memory that it takes now.
    pub fn resident_bytes(&self) -> u64 {
        if self.is_loaded() { self.module.resident_bytes } else { 0 }
    }

    /// Memory that its unloading would free.
    fn idle_bytes(&self) -> u64 {
        let is_idle = |loaded: &Arc<Loaded>| Arc::strong_count(loaded) == 1;
        let goes = !self.pinned.load(Ordering::Acquire) && self.lock().as_ref().is_some_and(is_idle);
        if goes { self.module.resident_bytes } else { 0 }
    }

    /// Checks that a request could have so many bytes beside the module itself, if nothing else had any.
    ///
    /// # Errors
    /// With the numbers.
    pub fn check_peak(&self, bytes: u64) -> Result<(), Refusal> {
        let (budget, in_use) = self.residents.ledger.usage();
        if bytes.saturating_add(self.module.resident_bytes) <= budget {
            return Ok(());
        }
        Err(Refusal::new(&self.model, Why::Memory { needs: bytes, budget, in_use }, Duration::MAX))
    }

    /// Unloads others that are idle, where that makes room for a request. `passing` says what is in use only until what
    /// runs has ended: a request waits for that rather than have a model loaded again.
    pub async fn evict_others_for(&self, bytes: u64, passing: impl Fn() -> u64) {
        loop {
            let (budget, in_use) = self.residents.ledger.usage();
            let passing = passing();
            let is_there = in_use.saturating_sub(passing).saturating_add(bytes) <= budget;
            if is_there || self.residents.evict_one_for(bytes, passing).await.is_err() {
                return;
            }
        }
    }

    /// Takes hold of it and of memory for a request, which have to be waited for; unloads what is idle, but not this.
    ///
    /// Whoever waits here must hold no module, else two could wait for each other.
    ///
    /// # Errors
    /// [`Error::Refused`] with the numbers, and those of [`Self::hold`].
    pub async fn hold_with(&self, bytes: u64, deadline: Instant) -> Result<(Using, Reservation), Error> {
        let until = deadline.min(Instant::now() + PATIENCE);
        let turn = tokio::time::timeout_at(until.into(), self.residents.completing.lock()).await;
        let _one_at_a_time = turn.map_err(|_| {
            let (budget, in_use) = self.residents.ledger.usage();
            Shortage { needs: bytes, budget, in_use }.to_run(&self.model)
        })?;
        let using = self.hold(until).await?;
        let room = self.residents.make_room(bytes, until).await;
        let room = room.map_err(|shortage| shortage.to_run(&self.model))?;
        Ok((using, room.into_memory()))
    }

    /// Its processes, in the order of its groups.
    pub fn processes(&self) -> Vec<Process> {
        match self.instances() {
            Some(instances) => instances.processes(),
            None => self
                .groups
                .iter()
                .map(|group| Process { group: group.clone(), ..Process::default() })
                .collect(),
        }
    }

    pub(crate) fn process_count(&self) -> usize {
        self.groups.len()
    }

    /// The first of its processes that lives.
    pub fn pid(&self) -> Option<u32> {
        self.instances()?.pid()
    }

    /// Of all its processes.
    pub fn restarts(&self) -> u64 {
        self.instances().map_or(0, |instances| instances.restarts())
    }

    pub fn sandbox(&self) -> SandboxReport {
        self.instances().map(|instances| instances.sandbox()).unwrap_or_default()
    }

    fn instances(&self) -> Option<Arc<Instances>> {
        self.lock().as_ref().map(|loaded| loaded.instances.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<Loaded>>> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes hold of it; loads it where it made room for another.
    ///
    /// # Errors
    /// [`Error::Refused`] with the numbers when there is no room, [`Error::Stopping`] after [`Self::shutdown`].
    pub async fn hold(&self, deadline: Instant) -> Result<Using, Error> {
        self.used.store(self.residents.tick(), Ordering::Relaxed);
        if let Some(using) = self.hold_loaded() {
            return Ok(using);
        }
        let _one_at_a_time = self.loading.lock().await;
        if let Some(using) = self.hold_loaded() {
            return Ok(using);
        }
        if self.is_closed() {
            return Err(Error::Stopping);
        }
        let until = deadline.min(Instant::now() + PATIENCE);
        let room = self.residents.make_room(self.module.resident_bytes, until).await;
        let room = room.map_err(|shortage| shortage.to_load(&self.model))?;
        let launcher = &*self.residents.launcher;
        let instances = Instances::launch(launcher, || share(&self.file), &self.groups).await?;
        self.residents.faulted.add(1);
        let loaded = Arc::new(Loaded { instances: Arc::new(instances), _room: room });
        *self.lock() = Some(loaded.clone());
        if self.is_closed() {
            self.shutdown().await;
            return Err(Error::Stopping);
        }
        Ok(self.using(loaded))
    }

    fn hold_loaded(&self) -> Option<Using> {
        let loaded = self.lock().clone()?;
        Some(self.using(loaded))
    }

    fn using(&self, loaded: Arc<Loaded>) -> Using {
        Using { loaded, _change: Change(self.residents.clone()) }
    }

    /// Unloads it, if nobody uses it and it may go.
    pub(super) async fn evict(&self) -> bool {
        let Some(loaded) = self.take_idle() else { return false };
        tracing::info!(model = self.model, "unloaded to make room");
        self.residents.evicted.add(1);
        loaded.instances.shutdown().await;
        true
    }

    /// Takes it out of use, if nobody uses it and it may go.
    fn take_idle(&self) -> Option<Arc<Loaded>> {
        if self.pinned.load(Ordering::Acquire) {
            return None;
        }
        let mut loaded = self.lock();
        // Only under this lock are there ever more.
        loaded.take_if(|loaded| Arc::strong_count(loaded) == 1)
    }

    /// Ends it for good; requests inside fail.
    pub async fn shutdown(&self) {
        self.closed.store(true, Ordering::Release);
        let loaded = self.lock().take();
        if let Some(loaded) = loaded {
            loaded.instances.shutdown().await;
        }
    }
}

impl Using {
    /// What runs it.
    pub fn runner(&self) -> &dyn Runner {
        &*self.loaded.instances
    }
}

impl Room {
    /// The memory alone.
    fn into_memory(self) -> Reservation {
        self.memory
    }

    /// Makes it so many bytes, unless they are not to be had.
    fn resize(&mut self, bytes: u64) -> bool {
        self.memory.resize(bytes).is_ok()
    }
}

/// The module's file once more.
fn share(file: &OwnedFd) -> Result<OwnedFd, Error> {
    Ok(file.try_clone().map_err(StoreError::io("share a module", "".as_ref()))?)
}

impl Drop for Change {
    fn drop(&mut self) {
        self.0.ledger.tell();
    }
}
