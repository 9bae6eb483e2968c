//! Putting settings together: where each comes from, and what is wrong with it there.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table, Value};

use super::{Arguments, Settings, device_groups};

/// Spellings of earlier versions that still work.
const FORMER: [&str; 1] = ["require_strict_sandbox"];

/// Variables of other standards that say a setting, too.
const STANDARD: [(&str, &str); 2] = [
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "tracing.otlp_endpoint"),
    ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "tracing.otlp_endpoint"),
];

/// Settings, and where each that is not the default comes from.
#[derive(Debug)]
pub struct Loaded {
    pub settings: Settings,
    pub(super) origins: BTreeMap<String, Origin>,
    /// Variables of the environment that are nearly named like a setting.
    pub warnings: Vec<String>,
}

/// Where a setting was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    File { file: PathBuf, line: usize, column: usize },
    Environment { variable: String },
    Flag { flag: String },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file, line, column } => write!(f, "{}:{line}:{column}", file.display()),
            Self::Environment { variable } => write!(f, "environment variable {variable}"),
            Self::Flag { flag } => f.write_str(flag),
        }
    }
}

/// What is wrong with the settings.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the settings file `{}`", file.display())]
    Read {
        file: PathBuf,
        #[source]
        cause: std::io::Error,
    },
    /// Each with its place, in the order found.
    #[error("{}", .0.join("\n"))]
    Settings(Vec<String>),
    #[error("the settings contradict each other")]
    Contradiction(#[source] anyhow::Error),
}

impl Loaded {
    /// The settings of this process.
    ///
    /// # Errors
    /// All unknown names and values of the wrong kind at once; then what contradicts itself.
    pub fn from_process(arguments: Arguments) -> Result<Self, ConfigError> {
        // A value that is no text cannot be meant.
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
        });
        Self::from_parts(&arguments, variables)
    }

    pub(super) fn from_parts(
        arguments: &Arguments,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut layers = Layers::new();
        if let Some(file) = &arguments.config {
            let text = std::fs::read_to_string(file)
                .map_err(|cause| ConfigError::Read { file: file.clone(), cause })?;
            layers.read_file(file, &text);
        }
        layers.read_environment(variables);
        for (name, flag, value) in arguments.settings() {
            layers.put_text(name, &value, Origin::Flag { flag: flag.to_owned() });
        }
        let groups = format!("{}.", device_groups::TABLE);
        arguments
            .device_group
            .iter()
            .for_each(|pair| layers.put_pair("--device-group", "CORES", &groups, pair));
        arguments.set.iter().for_each(|pair| layers.put_pair("--set", "VALUE", "", pair));
        layers.finish()
    }
}

/// The names of all settings, those in tables with the table's name and a dot before them.
pub(super) fn names(settings: &Settings) -> Vec<String> {
    fn collect(prefix: &str, value: &serde_json::Value, names: &mut Vec<String>) {
        match value {
            serde_json::Value::Object(table) if !table.is_empty() => {
                for (name, value) in table {
                    collect(&format!("{prefix}.{name}"), value, names);
                }
            }
            _ => names.push(prefix.trim_start_matches('.').to_owned()),
        }
    }
    let mut names = Vec::new();
    collect("", &serde_json::to_value(settings).unwrap_or_default(), &mut names);
    names
}

struct Layers {
    names: Vec<String>,
    table: Table,
    origins: BTreeMap<String, Origin>,
    problems: Vec<String>,
    warnings: Vec<String>,
}

impl Layers {
    fn new() -> Self {
        Self {
            names: names(&Settings::default()),
            table: Table::new(),
            origins: BTreeMap::new(),
            problems: Vec::new(),
            warnings: Vec::new(),
        }
    }

    fn read_file(&mut self, file: &Path, text: &str) {
        let at = |offset: usize| place(file, text, offset);
        let parsed = DeTable::parse(text).and_then(|spans| Ok((spans, toml::from_str::<Table>(text)?)));
        match parsed {
            Ok((spans, values)) => self.read_table("", spans.get_ref(), &values, &at),
            Err(error) => self.problems.push(at_its_place(file, text, &error)),
        }
    }

    fn read_table(
        &mut self,
        prefix: &str,
        spans: &DeTable<'_>,
        values: &Table,
        at: &dyn Fn(usize) -> Origin,
    ) {
        let mut entries: Vec<_> = spans.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        for (key, spanned) in entries {
            let Some(value) = values.get(key.get_ref().as_ref()) else { continue };
            let name = format!("{prefix}{}", key.get_ref());
            let is_table = name == device_groups::TABLE
                || self.names.iter().any(|known| known.starts_with(&format!("{name}.")));
            match (spanned.get_ref(), value) {
                (DeValue::Table(spans), Value::Table(values)) if is_table => {
                    self.read_table(&format!("{name}."), spans, values, at);
                }
                _ => {
                    let span = if self.is_known(&name) { Spanned::span(spanned) } else { key.span() };
                    self.put(&name, value.clone(), at(span.start));
                }
            }
        }
    }

    fn read_environment(&mut self, variables: impl Iterator<Item = (String, String)>) {
        let known: BTreeMap<String, String> =
            self.names.iter().map(|name| (variable(name), name.clone())).collect();
        let mut variables: Vec<(String, String)> = variables.collect();
        // The last one counts: our own, or of the standards' the more particular one.
        let rank = |variable: &str| STANDARD.iter().position(|(name, _)| *name == variable);
        variables.sort_by_key(|(variable, _)| rank(variable).unwrap_or(STANDARD.len()));
        for (variable, value) in variables {
            let standard = STANDARD.iter().find(|(name, _)| *name == variable);
            if let Some((_, name)) = standard {
                if !value.is_empty() {
                    self.put_text(name, &value, Origin::Environment { variable });
                }
            } else if let Some(name) = known.get(&variable) {
                self.put_text(name, &value, Origin::Environment { variable });
            } else if variable.starts_with("IRED_")
                && let Some(near) = nearest(&variable, known.keys())
            {
                self.warnings.push(format!("environment variable {variable} is no setting; is it {near}?"));
            }
        }
    }

    fn is_known(&self, name: &str) -> bool {
        FORMER.contains(&name) || device_groups::is_one(name) || self.names.iter().any(|known| known == name)
    }

    /// Takes what a flag says as `NAME=` and what `form` says, of a setting in a table or of any.
    fn put_pair(&mut self, flag: &str, form: &str, table: &str, pair: &str) {
        let origin = Origin::Flag { flag: format!("{flag} {pair}") };
        match pair.split_once('=') {
            Some((name, value)) => self.put_text(&format!("{table}{}", name.trim()), value.trim(), origin),
            None => self.problems.push(format!("{origin}: expected NAME={form}")),
        }
    }

    /// Takes a value whose kind only the setting tells: text, or else what TOML makes of it.
    fn put_text(&mut self, name: &str, text: &str, origin: Origin) {
        let as_text = Value::String(text.to_owned());
        let as_toml = || toml::from_str::<Table>(&format!("value = {text}")).ok()?.remove("value");
        let value = match accepts(name, &as_text) {
            Ok(()) => as_text,
            Err(_) => as_toml().unwrap_or(as_text),
        };
        self.put(name, value, origin);
    }

    fn put(&mut self, name: &str, value: Value, origin: Origin) {
        if let (device_groups::TABLE, Value::Table(groups)) = (name, &value) {
            for (group, cores) in groups {
                self.put(&format!("{name}.{group}"), cores.clone(), origin.clone());
            }
        } else if !self.is_known(name) {
            let is_group = name.starts_with(&format!("{}.", device_groups::TABLE));
            let near = nearest(name, self.names.iter()).filter(|_| !is_group);
            let hint = match near {
                Some(near) => format!("; is it `{near}`?"),
                None if is_group => format!("; {}", device_groups::NAMES),
                None => String::new(),
            };
            self.problems.push(format!("{origin}: `{}` is no setting{hint}", name.escape_debug()));
        } else if let Err(problem) = accepts(name, &value) {
            self.problems.push(format!("{origin}: setting `{name}`: {problem}"));
        } else {
            let name = if name == FORMER[0] { "require_sandbox" } else { name };
            insert(&mut self.table, name, value);
            self.origins.insert(name.to_owned(), origin);
        }
    }

    fn finish(self) -> Result<Loaded, ConfigError> {
        if !self.problems.is_empty() {
            return Err(ConfigError::Settings(self.problems));
        }
        let settings = Settings::deserialize(self.table)
            .map_err(|error| ConfigError::Settings(vec![error.message().to_owned()]))?;
        let beyond = device_groups::beyond(&settings.device_groups).into_iter().map(|(name, problem)| {
            let origin = self.origins.get(&name).map_or_else(String::new, |origin| format!("{origin}: "));
            format!("{origin}setting `{name}`: {problem}")
        });
        let problems: Vec<String> = beyond.collect();
        if !problems.is_empty() {
            return Err(ConfigError::Settings(problems));
        }
        settings.check().map_err(ConfigError::Contradiction)?;
        Ok(Loaded { settings, origins: self.origins, warnings: self.warnings })
    }
}

/// Whether the value is of the setting's kind.
fn accepts(name: &str, value: &Value) -> Result<(), String> {
    let mut table = Table::new();
    insert(&mut table, name, value.clone());
    Settings::deserialize(table).map(drop).map_err(|error| error.message().trim().to_owned())
}

fn insert(table: &mut Table, name: &str, value: Value) {
    match name.split_once('.') {
        None => drop(table.insert(name.to_owned(), value)),
        Some((first, rest)) => {
            let inner = table.entry(first).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(inner) = inner {
                insert(inner, rest, value);
            }
        }
    }
}

/// The variable of the environment for a setting.
pub(super) fn variable(name: &str) -> String {
    format!("IRED_{}", name.replace('.', "_").to_uppercase())
}

/// The known name that was probably meant.
fn nearest<'n>(name: &str, known: impl Iterator<Item = &'n String>) -> Option<&'n String> {
    let rated = known.map(|known| (strsim::damerau_levenshtein(name, known), known));
    let (distance, near) = rated.min_by_key(|(distance, _)| *distance)?;
    (distance <= (name.len() / 3).min(4)).then_some(near)
}

/// An error of a file in TOML, with its place.
pub(crate) fn at_its_place(file: &Path, text: &str, error: &toml::de::Error) -> String {
    at_place(file, text, error.span().map_or(0, |span| span.start), error.message().trim())
}

/// What is wrong at an offset of a file, with its place.
pub(crate) fn at_place(file: &Path, text: &str, offset: usize, wrong: impl fmt::Display) -> String {
    format!("{}: {wrong}", place(file, text, offset))
}

fn place(file: &Path, text: &str, offset: usize) -> Origin {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    Origin::File {
        file: file.to_owned(),
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
    }
}
