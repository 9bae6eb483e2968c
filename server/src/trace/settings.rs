//! Which requests are traced: the trace extension's settings, for all models and for single ones.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::error::{Error, shown};

/// Values by setting, as the protocol has them.
pub type Values = BTreeMap<&'static str, Vec<String>>;
/// New values by setting; none is a return to what holds without one.
pub type Changes = BTreeMap<String, Vec<String>>;

const LEVEL: &str = "trace_level";
const RATE: &str = "trace_rate";
const COUNT: &str = "trace_count";
/// Settings of Triton's that have one value here: lines go to the log, each at once.
const FIXED: [(&str, &str); 3] = [("trace_file", ""), ("log_frequency", "0"), ("trace_mode", "log")];

/// What a server does that was told nothing.
const OFF: Setting = Setting { timestamps: false, rate: 1000, count: None };

#[derive(Clone, Debug, PartialEq, Eq)]
struct Setting {
    /// Level `TIMESTAMPS`; the other is `OFF`.
    timestamps: bool,
    /// One of so many requests is traced.
    rate: u32,
    /// So many are traced before it ends; `None`: it does not.
    count: Option<u32>,
}

/// What a model has of its own.
#[derive(Clone, Debug, Default)]
struct Own {
    timestamps: Option<bool>,
    rate: Option<u32>,
    count: Option<Option<u32>>,
}

/// A setting at work.
#[derive(Debug)]
struct Sampler {
    setting: Setting,
    requests: AtomicU64,
    /// Traces that may still be made, where they are counted.
    left: AtomicI64,
}

#[derive(Debug)]
struct Known {
    all: Arc<Sampler>,
    models: BTreeMap<String, (Own, Arc<Sampler>)>,
}

/// The settings of all models.
#[derive(Debug)]
pub struct TraceSettings {
    /// Whether any request may be traced, so that the usual case costs one load.
    any: AtomicBool,
    known: RwLock<Known>,
}

impl Default for TraceSettings {
    fn default() -> Self {
        let known = Known { all: Sampler::new(OFF), models: BTreeMap::new() };
        Self { any: AtomicBool::new(false), known: RwLock::new(known) }
    }
}

impl TraceSettings {
    /// Whether this request of `model` is to be traced.
    pub fn samples(&self, model: &str) -> bool {
        if !self.any.load(Ordering::Relaxed) {
            return false;
        }
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.models.get(model).map_or(&known.all, |(_, sampler)| sampler).samples()
    }

    /// What holds for a model, or with an empty name for those without settings of their own.
    pub fn values(&self, model: &str) -> Values {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.models.get(model).map_or(&known.all, |(_, sampler)| sampler).values()
    }

    /// Changes what holds for a model, or with an empty name for all that have nothing of their own. Counting
    /// begins anew.
    ///
    /// # Errors
    /// A setting that does not exist or cannot have the value; nothing is changed then.
    pub fn change(&self, model: &str, changes: &Changes) -> Result<Values, Error> {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if model.is_empty() {
            let mut own = Own::from(&known.all.setting);
            own.change(changes)?;
            known.all = Sampler::new(own.over(&OFF));
            let all = known.all.setting.clone();
            for (own, sampler) in known.models.values_mut() {
                *sampler = Sampler::new(own.over(&all));
            }
        } else {
            let mut own = known.models.get(model).map(|(own, _)| own.clone()).unwrap_or_default();
            own.change(changes)?;
            let sampler = Sampler::new(own.over(&known.all.setting));
            known.models.insert(model.to_owned(), (own, sampler));
        }
        let mut samplers = known.models.values().map(|(_, sampler)| sampler).chain([&known.all]);
        self.any.store(samplers.any(|sampler| sampler.setting.timestamps), Ordering::Relaxed);
        Ok(known.models.get(model).map_or(&known.all, |(_, sampler)| sampler).values())
    }

    /// Forgets models that are no more: names come from strangers.
    pub fn retain(&self, exists: impl Fn(&str) -> bool) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.models.retain(|model, _| exists(model));
    }
}

impl Sampler {
    fn new(setting: Setting) -> Arc<Self> {
        let left = AtomicI64::new(setting.count.map_or(i64::MAX, i64::from));
        Arc::new(Self { setting, requests: AtomicU64::new(0), left })
    }

    fn samples(&self) -> bool {
        let turn = || {
            self.requests.fetch_add(1, Ordering::Relaxed).is_multiple_of(u64::from(self.setting.rate.max(1)))
        };
        self.setting.timestamps
            && turn()
            && (self.setting.count.is_none() || self.left.fetch_sub(1, Ordering::Relaxed) > 0)
    }

    fn values(&self) -> Values {
        let Setting { timestamps, rate, count } = &self.setting;
        let level = if *timestamps { "TIMESTAMPS" } else { "OFF" };
        // What is left of the count, as clients watch it go down; -1 is no end.
        let left = || self.left.load(Ordering::Relaxed).max(0).to_string();
        let count = count.map_or("-1".to_owned(), |_| left());
        let changeable = [(LEVEL, level.to_owned()), (RATE, rate.to_string()), (COUNT, count)];
        let fixed = FIXED.map(|(name, value)| (name, value.to_owned()));
        changeable.into_iter().chain(fixed).map(|(name, value)| (name, vec![value])).collect()
    }
}

impl From<&Setting> for Own {
    fn from(setting: &Setting) -> Self {
        Self { timestamps: Some(setting.timestamps), rate: Some(setting.rate), count: Some(setting.count) }
    }
}

impl Own {
    fn over(&self, other: &Setting) -> Setting {
        Setting {
            timestamps: self.timestamps.unwrap_or(other.timestamps),
            rate: self.rate.unwrap_or(other.rate),
            count: self.count.unwrap_or(other.count),
        }
    }

    fn change(&mut self, changes: &Changes) -> Result<(), Error> {
        for (name, values) in changes {
            let wrong = |expected: &str| {
                let found = shown(&values.join(","));
                Error::invalid(format!("trace setting `{name}`: found `{found}`, expected {expected}"))
            };
            let texts: Vec<&str> = values.iter().map(String::as_str).collect();
            match (name.as_str(), texts.as_slice()) {
                (LEVEL, []) => self.timestamps = None,
                (LEVEL, levels) => {
                    let is_level = |level: &&str| matches!(*level, "OFF" | "TIMESTAMPS");
                    if !levels.iter().all(is_level) {
                        return Err(wrong("OFF or TIMESTAMPS"));
                    }
                    self.timestamps = Some(levels.contains(&"TIMESTAMPS"));
                }
                (RATE, []) => self.rate = None,
                (RATE, [rate]) => {
                    let rate = rate.parse().ok().filter(|&rate| rate > 0);
                    self.rate = Some(rate.ok_or_else(|| wrong("a whole number from 1 on"))?);
                }
                (COUNT, []) => self.count = None,
                (COUNT, ["-1"]) => self.count = Some(None),
                (COUNT, [count]) => {
                    let count = count.parse().map_err(|_| wrong("a whole number, or -1 for no end"))?;
                    self.count = Some(Some(count));
                }
                (name, values) => match FIXED.iter().find(|(fixed, _)| *fixed == name) {
                    Some((_, value)) if values.is_empty() || values == [*value] => {}
                    Some((_, value)) => return Err(wrong(&format!("`{value}`, which cannot be changed"))),
                    None if matches!(name, RATE | COUNT) => return Err(wrong("one value")),
                    None => {
                        return Err(Error::invalid(format!("there is no trace setting `{}`", shown(name))));
                    }
                },
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(pairs: &[(&str, &[&str])]) -> Changes {
        let owned = |values: &[&str]| values.iter().map(|&value| value.to_owned()).collect();
        pairs.iter().map(|(name, values)| ((*name).to_owned(), owned(values))).collect()
    }

    #[test]
    fn one_of_so_many_requests_is_traced_until_the_count_ends() {
        let settings = TraceSettings::default();
        assert!(!settings.samples("m"));
        let every_third = changes(&[(LEVEL, &["TIMESTAMPS"]), (RATE, &["3"]), (COUNT, &["2"])]);
        settings.change("", &every_third).unwrap();
        let sampled: Vec<bool> = (0..9).map(|_| settings.samples("m")).collect();
        assert_eq!(sampled, [true, false, false, true, false, false, false, false, false]);
        assert_eq!(settings.values("m")[COUNT], ["0"]);
        settings.change("", &changes(&[(LEVEL, &["OFF"])])).unwrap();
        assert!(!settings.samples("m"));
    }

    #[test]
    fn a_model_has_settings_of_its_own_until_they_are_cleared() {
        let settings = TraceSettings::default();
        settings.change("m", &changes(&[(LEVEL, &["TIMESTAMPS"]), (RATE, &["1"])])).unwrap();
        assert!(settings.samples("m") && !settings.samples("other"));
        assert_eq!(
            (&settings.values("m")[RATE], &settings.values("")[RATE]),
            (&vec!["1".to_owned()], &vec!["1000".to_owned()])
        );
        settings.change("", &changes(&[(COUNT, &["7"])])).unwrap();
        assert_eq!(settings.values("m")[COUNT], ["7"], "what a model has not said is as for all");
        settings.change("m", &changes(&[(LEVEL, &[])])).unwrap();
        assert!(!settings.samples("m"));
        settings.change("m", &changes(&[(LEVEL, &["TIMESTAMPS"])])).unwrap();
        settings.retain(|model| model != "m");
        assert!(!settings.samples("m"));
    }

    #[test]
    fn what_cannot_be_set_is_named_and_changes_nothing() {
        let settings = TraceSettings::default();
        let before = settings.values("");
        let cases: [(&str, &[&str], &str); 6] = [
            (LEVEL, &["TENSORS"], "trace setting `trace_level`: found `TENSORS`, expected OFF or TIMESTAMPS"),
            (RATE, &["0"], "trace setting `trace_rate`: found `0`, expected a whole number from 1 on"),
            (RATE, &["1", "2"], "trace setting `trace_rate`: found `1,2`, expected one value"),
            (
                COUNT,
                &["-2"],
                "trace setting `trace_count`: found `-2`, expected a whole number, or -1 for no end",
            ),
            (
                "trace_file",
                &["/tmp/x"],
                "trace setting `trace_file`: found `/tmp/x`, expected ``, which cannot be changed",
            ),
            ("depth", &["1"], "there is no trace setting `depth`"),
        ];
        for (name, values, text) in cases {
            let error = settings.change("", &changes(&[("trace_count", &["5"]), (name, values)]));
            assert_eq!(error.unwrap_err().to_string(), text);
            assert_eq!(settings.values(""), before);
        }
    }
}
