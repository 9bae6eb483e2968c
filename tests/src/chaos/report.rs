//! What came of a scenario, and the table of all.

use std::fmt;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::crowd::Tally;

/// What came of one scenario.
#[derive(Debug, Default)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) answered: u64,
    pub(crate) refused: u64,
    pub(crate) cut: u64,
    pub(crate) wrong: u64,
    pub(crate) lost: u64,
    /// Uploads that were acknowledged.
    pub(crate) uploads: usize,
    /// Everything that must not be; empty is good.
    pub(crate) faults: Vec<String>,
    /// What was done, in numbers.
    pub(crate) notes: Vec<String>,
    /// Why it could not be played here.
    pub(crate) not_played: Option<String>,
    pub(crate) took: Duration,
}

impl Row {
    pub(crate) fn failed(name: &'static str, error: &anyhow::Error) -> Self {
        Self { name, faults: vec![format!("{error:#}")], ..Self::default() }
    }

    pub(crate) fn count(&mut self, tally: &Tally) {
        let read = |number: &std::sync::atomic::AtomicU64| number.load(Ordering::Relaxed);
        self.answered = read(&tally.answered);
        self.refused = read(&tally.refused);
        self.cut = read(&tally.cut);
        self.wrong = read(&tally.wrong);
        self.lost = read(&tally.lost);
        self.faults.extend(tally.stories());
    }

    pub(crate) fn is_good(&self) -> bool {
        self.faults.is_empty() && self.wrong == 0 && self.lost == 0
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match (&self.not_played, self.is_good()) {
            (Some(_), true) => "not played",
            (None, true) => "good",
            _ => "FAILED",
        };
        let Self { name, answered, refused, cut, wrong, lost, uploads, .. } = self;
        let seconds = self.took.as_secs();
        write!(
            f,
            "{name:<16}{answered:>10}{refused:>9}{cut:>6}{wrong:>7}{lost:>6}{uploads:>9}{seconds:>6} s  {verdict}"
        )?;
        for fault in &self.faults {
            write!(f, "\n    fault: {fault}")?;
        }
        for note in self.notes.iter().chain(&self.not_played) {
            write!(f, "\n    {note}")?;
        }
        Ok(())
    }
}

pub(crate) fn print(rows: &[Row]) {
    let (answered, refused, cut, wrong, lost) = ("answered", "refused", "cut", "wrong", "lost");
    println!("{:<16}{answered:>10}{refused:>9}{cut:>6}{wrong:>7}{lost:>6}  uploads  took", "scenario");
    for row in rows {
        println!("{row}");
    }
    let sum = |of: fn(&Row) -> u64| rows.iter().map(of).sum::<u64>();
    let (wrong, lost) = (sum(|row| row.wrong), sum(|row| row.lost));
    let faults: usize = rows.iter().map(|row| row.faults.len()).sum();
    println!("{wrong} wrong answers, {lost} requests lost that were not refused, {faults} faults");
}
