//! Progress of long work on the terminal; silent when nobody watches.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// One line that shows what is being done and how far it is.
pub(crate) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// A line on stderr; none when stderr is no terminal.
    pub(crate) fn start(what: &str) -> Self {
        let bar = ProgressBar::new_spinner();
        bar.set_style(style("{spinner} {prefix} {msg}"));
        bar.set_prefix(what.to_owned());
        bar.enable_steady_tick(Duration::from_millis(100));
        Self { bar }
    }

    /// `done` of `total` units of `phase`; a total of 0 is unknown.
    pub(crate) fn step(&self, phase: &str, done: u64, total: u64, detail: &str) {
        self.show(total, "{spinner} {prefix} {bar:30} {pos}/{len} {msg}", done);
        self.bar.set_message(format!("{phase} {detail}"));
    }

    /// `done` of `total` bytes.
    pub(crate) fn bytes(&self, what: &str, done: u64, total: u64) {
        self.show(total, "{spinner} {prefix} {bar:30} {bytes}/{total_bytes} {msg}", done);
        self.bar.set_message(what.to_owned());
    }

    fn show(&self, total: u64, with_bar: &str, done: u64) {
        self.bar.set_style(style(if total == 0 { "{spinner} {prefix} {msg}" } else { with_bar }));
        self.bar.set_length(total);
        self.bar.set_position(done);
    }

    /// Takes the line away.
    pub(crate) fn finish(self) {
        self.bar.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}
