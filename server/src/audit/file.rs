//! A file that is renamed when it is full: `audit.log`, before it `audit.log.1`, and so on.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

pub(super) struct RotatedFile {
    /// `None`: the standard error.
    place: Option<Place>,
}

struct Place {
    path: PathBuf,
    file: File,
    bytes: u64,
    limit: u64,
    kept: usize,
}

impl RotatedFile {
    /// Opens the file to append; `-` is the standard error.
    pub(super) fn open(path: &Path, limit: u64, kept: usize) -> io::Result<Self> {
        if path == Path::new("-") {
            return Ok(Self { place: None });
        }
        let file = append_to(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { place: Some(Place { path: path.to_owned(), file, bytes, limit, kept }) })
    }

    pub(super) fn append(&mut self, line: &[u8]) -> io::Result<()> {
        let Some(place) = &mut self.place else { return io::stderr().lock().write_all(line) };
        if place.bytes > 0 && place.bytes + line.len() as u64 > place.limit {
            place.rotate()?;
        }
        place.file.write_all(line)?;
        place.bytes += line.len() as u64;
        Ok(())
    }
}

impl Place {
    fn rotate(&mut self) -> io::Result<()> {
        let numbered = |number: usize| {
            let mut name = OsString::from(&self.path);
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        match self.kept {
            0 => unless_gone(std::fs::remove_file(&self.path))?,
            kept => {
                for number in (1..kept).rev() {
                    unless_gone(std::fs::rename(numbered(number), numbered(number + 1)))?;
                }
                unless_gone(std::fs::rename(&self.path, numbered(1)))?;
            }
        }
        (self.file, self.bytes) = (append_to(&self.path)?, 0);
        Ok(())
    }
}

/// Files that are not there, not yet or because somebody else moved them, need no moving.
fn unless_gone(moved: io::Result<()>) -> io::Result<()> {
    moved.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

/// Others than the daemon's user and group have no business with it.
fn append_to(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    File::options().create(true).append(true).mode(0o640).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_file_is_renamed_and_the_oldest_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.log");
        for round in 0..2 {
            let mut log = RotatedFile::open(&path, 8, 2).unwrap();
            for line in 0..3 {
                log.append(format!("r{round} l{line}\n").as_bytes()).unwrap();
            }
        }
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!((read("audit.log").as_str(), read("audit.log.1").as_str()), ("r1 l2\n", "r1 l1\n"));
        assert_eq!(read("audit.log.2"), "r1 l0\n");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3);
    }

    #[test]
    fn a_file_that_somebody_else_moved_is_begun_anew() {
        for kept in [0, 2] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("audit.log");
            let mut log = RotatedFile::open(&path, 8, kept).unwrap();
            log.append(b"one\n").unwrap();
            std::fs::rename(&path, dir.path().join("elsewhere")).unwrap();
            log.append(b"two three\n").unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), "two three\n");
        }
    }
}
