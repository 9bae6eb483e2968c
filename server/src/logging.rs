//! What is logged: the filter of the settings, and what a client changes of it while the daemon runs.
//!
//! A process has one log, so what rules it is the process's, too; a test that starts none has nothing to change.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tracing::Level;
use tracing_subscriber::filter::{FilterFn, LevelFilter, ParseError};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, reload};

use crate::error::Error;

/// The crates whose events a client may ask for; those of others are the settings' affair.
const OURS: [&str; 2] = ["ired", "ired_worker"];

static LOGGING: OnceLock<Logging> = OnceLock::new();

/// Which kinds of lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Levels {
    pub error: bool,
    pub warning: bool,
    pub info: bool,
    /// 0: none; 1: what helps to understand a request; more: everything.
    pub verbose: u32,
}

/// The log of this process.
pub struct Logging {
    filter: String,
    reload: reload::Handle<EnvFilter, Registry>,
    levels: Arc<Mutex<Levels>>,
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    #[error("setting `log` is `{filter}`, which is no filter")]
    Filter {
        filter: String,
        #[source]
        cause: ParseError,
    },
    #[error("this process has a log already")]
    Twice,
}

/// Starts the log: what `filter` lets through is written by `writer`.
///
/// # Errors
/// A text that is no filter, a second start.
pub fn start<L>(filter: &str, writer: L) -> Result<(), LoggingError>
where
    L: Layer<Filtered> + Send + Sync + 'static,
{
    let parsed = EnvFilter::try_new(filter);
    let parsed = parsed.map_err(|cause| LoggingError::Filter { filter: filter.to_owned(), cause })?;
    let levels = Arc::new(Mutex::new(Levels::of(&parsed)));
    let (parsed, reload) = reload::Layer::new(parsed);
    let gate: Gate = {
        let levels = levels.clone();
        Box::new(move |event| lock(&levels).allow(*event.level()))
    };
    let subscriber = tracing_subscriber::registry().with(parsed).with(FilterFn::new(gate)).with(writer);
    subscriber.try_init().map_err(|_| LoggingError::Twice)?;
    LOGGING.set(Logging { filter: filter.to_owned(), reload, levels }).map_err(|_| LoggingError::Twice)
}

type Gate = Box<dyn Fn(&tracing::Metadata<'_>) -> bool + Send + Sync>;
/// What a writer gets its events from.
pub type Filtered = tracing_subscriber::layer::Layered<
    FilterFn<Gate>,
    tracing_subscriber::layer::Layered<reload::Layer<EnvFilter, Registry>, Registry>,
>;

/// The log of this process.
///
/// # Errors
/// [`Error::Unsupported`] where none was started.
pub fn current() -> Result<&'static Logging, Error> {
    LOGGING.get().ok_or_else(|| Error::Unsupported("this server keeps no log".to_owned()))
}

impl Logging {
    pub fn levels(&self) -> Levels {
        *lock(&self.levels)
    }

    /// From now on.
    ///
    /// # Errors
    /// None but those of a process that is ending.
    pub fn change(&self, levels: Levels) -> Result<(), Error> {
        let mut filter = EnvFilter::new(&self.filter);
        let most = levels.most();
        if Levels::of(&filter).most() < most {
            for crate_name in OURS {
                // Both parts are ours, and together a directive.
                filter = filter
                    .add_directive(format!("{crate_name}={most}").parse().map_err(|_| Error::Stopping)?);
            }
        }
        *lock(&self.levels) = levels;
        // Also makes every place in the code that logs ask again.
        self.reload.reload(filter).map_err(|_| Error::Stopping)
    }
}

impl Levels {
    fn of(filter: &EnvFilter) -> Self {
        let most = filter.max_level_hint().unwrap_or(LevelFilter::TRACE);
        Self {
            error: most >= LevelFilter::ERROR,
            warning: most >= LevelFilter::WARN,
            info: most >= LevelFilter::INFO,
            verbose: u32::from(most >= LevelFilter::DEBUG) + u32::from(most >= LevelFilter::TRACE),
        }
    }

    fn most(self) -> LevelFilter {
        match self {
            Self { verbose: 2.., .. } => LevelFilter::TRACE,
            Self { verbose: 1, .. } => LevelFilter::DEBUG,
            Self { info: true, .. } => LevelFilter::INFO,
            Self { warning: true, .. } => LevelFilter::WARN,
            Self { error: true, .. } => LevelFilter::ERROR,
            _ => LevelFilter::OFF,
        }
    }

    fn allow(self, level: Level) -> bool {
        match level {
            Level::ERROR => self.error,
            Level::WARN => self.warning,
            Level::INFO => self.info,
            Level::DEBUG => self.verbose >= 1,
            Level::TRACE => self.verbose >= 2,
        }
    }
}

fn lock(levels: &Mutex<Levels>) -> std::sync::MutexGuard<'_, Levels> {
    levels.lock().unwrap_or_else(PoisonError::into_inner)
}
