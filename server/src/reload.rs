//! Values made of files that change while the daemon runs: what was sound stays until what follows it is sound.

use std::fmt;
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use anyhow::Context;

use crate::store::blocking;

/// How often files are looked at. They are few and small, and a stamp would miss two changes within its precision.
const LOOK: Duration = Duration::from_secs(2);

/// The files of one reading, and what they contained.
pub(crate) struct Files(blake3::Hasher);

impl Files {
    /// Reads a file of at most 16 MiB.
    pub(crate) fn read(&mut self, path: &Path) -> anyhow::Result<Vec<u8>> {
        const MOST: u64 = 16 << 20;
        let read = || {
            let file = std::fs::File::open(path)?;
            let mut content = Vec::new();
            file.take(MOST + 1).read_to_end(&mut content)?;
            if content.len() as u64 > MOST {
                return Err(std::io::Error::other(format!("it has more than {MOST} bytes")));
            }
            Ok(content)
        };
        let content = read().with_context(|| format!("cannot read `{}`", path.display()));
        // What cannot be read is a state of the file as well.
        let state = content.as_ref().map_or(&[] as &[u8], Vec::as_slice);
        self.0.update(blake3::hash(path.as_os_str().as_encoded_bytes()).as_bytes());
        self.0.update(&[u8::from(content.is_ok())]);
        self.0.update(blake3::hash(state).as_bytes());
        content
    }
}

/// How a value is made of files.
pub(crate) trait Source: fmt::Debug + Send + Sync + 'static {
    type Value: Send + Sync;
    /// What it is, for the log.
    const NAME: &'static str;

    fn read(&self, files: &mut Files) -> anyhow::Result<Self::Value>;
}

/// A value and the state of the files that it, or the last attempt to replace it, was made of.
pub(crate) struct Reloaded<S: Source> {
    source: S,
    value: RwLock<Arc<S::Value>>,
    seen: Mutex<blake3::Hash>,
}

/// What a look at the files came to.
#[derive(Debug)]
pub(crate) enum Look {
    Unchanged,
    Changed,
    /// They changed into something unusable.
    Refused(anyhow::Error),
}

impl<S: Source> Reloaded<S> {
    /// # Errors
    /// Those of the source: there is nothing earlier to stay with.
    pub(crate) fn open(source: S) -> anyhow::Result<Self> {
        let (value, seen) = read(&source);
        Ok(Self { value: RwLock::new(Arc::new(value?)), seen: Mutex::new(seen), source })
    }

    pub(crate) fn current(&self) -> Arc<S::Value> {
        self.value.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks whether the files are others now. Blocks.
    pub(crate) fn look(&self) -> Look {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let (value, now) = read(&self.source);
        if std::mem::replace(&mut *seen, now) == now {
            return Look::Unchanged;
        }
        match value {
            Ok(value) => {
                *self.value.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
                Look::Changed
            }
            Err(error) => Look::Refused(error),
        }
    }

    /// Looks every now and then, and when `now` says so; ends with its future.
    pub(crate) async fn follow(self: Arc<Self>, now: Arc<tokio::sync::Notify>) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = now.notified() => {}
            }
            let this = self.clone();
            match blocking(move || Ok::<_, crate::store::StoreError>(this.look())).await {
                Ok(Look::Unchanged) => {}
                Ok(Look::Changed) => tracing::info!("{} read again", S::NAME),
                Ok(Look::Refused(error)) => {
                    let error = format!("{error:#}");
                    tracing::error!(error, "{} changed and cannot be used; the earlier one stays", S::NAME);
                }
                Err(error) => tracing::error!(%error, "cannot look at {}", S::NAME),
            }
        }
    }
}

impl<S: Source> fmt::Debug for Reloaded<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloaded").field("source", &self.source).finish_non_exhaustive()
    }
}

fn read<S: Source>(source: &S) -> (anyhow::Result<S::Value>, blake3::Hash) {
    let mut files = Files(blake3::Hasher::new());
    let value = source.read(&mut files);
    (value, files.0.finalize())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[derive(Debug)]
    struct Number(PathBuf);

    impl Source for Number {
        type Value = u32;
        const NAME: &'static str = "the number";

        fn read(&self, files: &mut Files) -> anyhow::Result<u32> {
            Ok(String::from_utf8(files.read(&self.0)?)?.trim().parse()?)
        }
    }

    #[test]
    fn what_was_sound_stays_until_something_sound_follows() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("number");
        assert!(Reloaded::open(Number(file.clone())).is_err());
        std::fs::write(&file, "1").unwrap();
        let number = Reloaded::open(Number(file.clone())).unwrap();
        assert!(matches!(number.look(), Look::Unchanged));
        std::fs::write(&file, "one").unwrap();
        assert!(matches!(number.look(), Look::Refused(_)));
        assert!(matches!(number.look(), Look::Unchanged), "told once");
        assert_eq!(*number.current(), 1);
        std::fs::remove_file(&file).unwrap();
        assert!(matches!(number.look(), Look::Refused(_)));
        std::fs::write(&file, "2").unwrap();
        assert!(matches!(number.look(), Look::Changed));
        assert_eq!(*number.current(), 2);
        // Of one that is too long the start may well be sound.
        std::fs::write(&file, format!("3{}", " ".repeat(16 << 20))).unwrap();
        assert!(matches!(number.look(), Look::Refused(_)));
    }
}
