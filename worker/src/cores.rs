//! Sets of processor cores, written as Linux writes them: `0-3,8`.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::str::FromStr;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::{Deserialize, Serialize};

/// Cores by the kernel's numbers; at least one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cores(BTreeSet<usize>);

/// Why a text names no cores.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CoresError {
    #[error("found no core, expected numbers and ranges, such as `0-3,8`")]
    Empty,
    #[error("found `{part}`, expected numbers and ranges, such as `0-3,8`")]
    Malformed { part: String },
    #[error("found core {core}, expected at most {}", CpuSet::MAX_CPU - 1)]
    TooLarge { core: usize },
}

/// Why a thread cannot be confined.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    #[error("cores {wanted} were asked for, and this process may use {found}")]
    NotAllowed { wanted: Cores, found: Cores },
    #[error("cannot confine a thread to cores {wanted}")]
    Refused {
        wanted: Cores,
        #[source]
        cause: io::Error,
    },
}

impl Cores {
    /// Those that the calling thread may run on.
    ///
    /// # Errors
    /// What the system says where it does not tell, as with more cores than a set holds.
    pub fn allowed() -> io::Result<Self> {
        let set = sched_getaffinity(None)?;
        Ok(Self((0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect()))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Those that `others` lacks, if there are any.
    pub fn missing_in(&self, others: &Self) -> Option<Self> {
        let missing: BTreeSet<usize> = self.0.difference(&others.0).copied().collect();
        (!missing.is_empty()).then_some(Self(missing))
    }

    /// Has the calling thread, and those that it starts from now on, run on these only.
    ///
    /// # Errors
    /// Where it may not run on all of them; it goes on as before then.
    pub fn confine(&self) -> Result<(), ConfineError> {
        let refused = |cause: io::Error| ConfineError::Refused { wanted: self.clone(), cause };
        let before = Self::allowed().map_err(refused)?;
        if self.missing_in(&before).is_some() {
            return Err(ConfineError::NotAllowed { wanted: self.clone(), found: before });
        }
        let mut set = CpuSet::new();
        self.0.iter().for_each(|&core| set.set(core));
        sched_setaffinity(None, &set).map_err(|errno| refused(errno.into()))
    }
}

impl FromStr for Cores {
    type Err = CoresError;

    fn from_str(text: &str) -> Result<Self, CoresError> {
        let mut cores = BTreeSet::new();
        for part in text.split(',').map(str::trim).filter(|_| !text.trim().is_empty()) {
            let malformed = || CoresError::Malformed { part: part.to_owned() };
            let number = |text: &str| text.trim().parse::<usize>().map_err(|_| malformed());
            let (first, last) = match part.split_once('-') {
                Some((first, last)) => (number(first)?, number(last)?),
                None => (number(part)?, number(part)?),
            };
            if first > last {
                return Err(malformed());
            }
            if last >= CpuSet::MAX_CPU {
                return Err(CoresError::TooLarge { core: last });
            }
            cores.extend(first..=last);
        }
        if cores.is_empty() { Err(CoresError::Empty) } else { Ok(Self(cores)) }
    }
}

impl fmt::Display for Cores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cores = self.0.iter().copied().peekable();
        let mut separator = "";
        while let Some(first) = cores.next() {
            let mut last = first;
            while let Some(next) = cores.next_if_eq(&(last + 1)) {
                last = next;
            }
            match last - first {
                0 => write!(f, "{separator}{first}")?,
                _ => write!(f, "{separator}{first}-{last}")?,
            }
            separator = ",";
        }
        Ok(())
    }
}

impl TryFrom<String> for Cores {
    type Error = CoresError;

    fn try_from(text: String) -> Result<Self, CoresError> {
        text.parse()
    }
}

impl From<Cores> for String {
    fn from(cores: Cores) -> Self {
        cores.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cores(text: &str) -> Cores {
        text.parse().unwrap()
    }

    #[test]
    fn they_are_written_as_linux_writes_them() {
        for (text, written, count) in
            [("0", "0", 1), ("3,1, 2", "1-3", 3), ("0-3,8,10 - 11", "0-3,8,10-11", 7), ("5-5,5", "5", 1)]
        {
            assert_eq!((cores(text).to_string().as_str(), cores(text).count()), (written, count));
        }
        for (text, error) in [
            ("", "found no core, expected numbers and ranges, such as `0-3,8`"),
            (" ", "found no core, expected numbers and ranges, such as `0-3,8`"),
            ("0,", "found ``, expected numbers and ranges, such as `0-3,8`"),
            ("3-1", "found `3-1`, expected numbers and ranges, such as `0-3,8`"),
            ("all", "found `all`, expected numbers and ranges, such as `0-3,8`"),
            ("0-99999999999", "found core 99999999999, expected at most 1023"),
        ] {
            assert_eq!(text.parse::<Cores>().unwrap_err().to_string(), error);
        }
    }

    #[test]
    fn what_others_lack_is_named() {
        assert_eq!(cores("0-3").missing_in(&cores("0-7")), None);
        assert_eq!(cores("0-3,9").missing_in(&cores("1-7")), Some(cores("0,9")));
    }

    #[test]
    fn a_thread_and_what_it_starts_stay_on_their_cores() {
        let on_a_thread = std::thread::spawn(|| {
            let first = Cores(Cores::allowed().unwrap().0.first().copied().into_iter().collect());
            first.confine().unwrap();
            let started = std::thread::spawn(Cores::allowed).join().unwrap().unwrap();
            assert_eq!((Cores::allowed().unwrap(), started), (first.clone(), first.clone()));
            let other = cores("1023");
            let error = other.confine().unwrap_err().to_string();
            assert_eq!(error, format!("cores 1023 were asked for, and this process may use {first}"));
        });
        on_a_thread.join().unwrap();
    }
}
