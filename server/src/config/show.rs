//! Every setting as it holds, as a settings file that says where each comes from.

use std::fmt::Write;

use super::layers::{Loaded, names};

impl Loaded {
    /// The settings in the form of `ired.toml`, each with its origin.
    pub fn show(&self) -> String {
        let values = serde_json::to_value(&self.settings).unwrap_or_default();
        let mut shown = String::new();
        for name in names(&self.settings) {
            let pointer = format!("/{}", name.replace('.', "/"));
            let value = values.pointer(&pointer).filter(|value| !value.is_null());
            // JSON's strings, numbers, truths and lists of them are TOML's.
            let line = match value {
                Some(value) => format!("{name} = {value}"),
                None => format!("# {name} is not set"),
            };
            let origin = self.origins.get(&name).map_or("default".to_owned(), ToString::to_string);
            let _ = match value {
                Some(_) => writeln!(shown, "{line:<48} # {origin}"),
                None => writeln!(shown, "{line}"),
            };
        }
        shown
    }
}
