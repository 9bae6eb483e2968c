//! The log's and the traces' settings as both protocols read and change them.

use crate::app::App;
use crate::error::{Error, shown};
use crate::logging::{self, Levels};
use crate::trace::{Changes, Values};

/// One log setting.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum LogValue {
    Switch(bool),
    Level(u32),
    Text(String),
}

/// Settings of Triton's that have one value here: lines go to standard error, as their settings have it.
const FIXED: [(&str, &str); 2] = [("log_file", ""), ("log_format", "default")];
const ERROR: &str = "log_error";
const WARNING: &str = "log_warning";
const INFO: &str = "log_info";
const VERBOSE: &str = "log_verbose_level";

/// Changes what the request names, all or nothing, and gives what holds then.
pub(super) fn log(
    changes: impl IntoIterator<Item = (String, LogValue)>,
) -> Result<Vec<(&'static str, LogValue)>, Error> {
    let log = logging::current()?;
    let before = log.levels();
    let mut levels = before;
    for (name, value) in changes {
        change(&mut levels, &name, value)?;
    }
    if levels != before {
        log.change(levels)?;
        tracing::warn!(?levels, "a client changed what is logged");
    }
    let switches = [(ERROR, levels.error), (WARNING, levels.warning), (INFO, levels.info)];
    let fixed = FIXED.map(|(name, value)| (name, LogValue::Text(value.to_owned())));
    let levels = switches.map(|(name, on)| (name, LogValue::Switch(on)));
    let verbose = (VERBOSE, LogValue::Level(log.levels().verbose));
    Ok(fixed.into_iter().chain(levels).chain([verbose]).collect())
}

fn change(levels: &mut Levels, name: &str, value: LogValue) -> Result<(), Error> {
    let wrong = |expected: &str| Err(Error::invalid(format!("log setting `{name}`: expected {expected}")));
    match (name, value) {
        (ERROR, LogValue::Switch(on)) => levels.error = on,
        (WARNING, LogValue::Switch(on)) => levels.warning = on,
        (INFO, LogValue::Switch(on)) => levels.info = on,
        (VERBOSE, LogValue::Level(level)) => levels.verbose = level,
        (ERROR | WARNING | INFO, _) => return wrong("a boolean"),
        (VERBOSE, _) => return wrong("a whole number that is not negative"),
        (name, value) => match FIXED.iter().find(|(fixed, _)| *fixed == name) {
            Some((_, only)) if value == LogValue::Text((*only).to_owned()) => {}
            Some((_, only)) => return wrong(&format!("`{only}`, which cannot be changed")),
            None => return Err(Error::invalid(format!("there is no log setting `{}`", shown(name)))),
        },
    }
    Ok(())
}

/// Changes what the request names, all or nothing, and gives what holds then; for all models, or for one.
pub(super) fn trace(app: &App, model: &str, changes: &Changes) -> Result<Values, Error> {
    if !model.is_empty() {
        app.registry.source(model, 0)?;
    }
    if changes.is_empty() {
        return Ok(app.traces.settings.values(model));
    }
    app.traces.settings.retain(|model| app.registry.source(model, 0).is_ok());
    app.traces.settings.change(model, changes)
}
