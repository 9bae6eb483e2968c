//! What a command that compiles a model lets its user say about that.

use std::io::Read;
use std::path::Path;

use anyhow::{Result, ensure};
use ired_worker::{CompileOptions, Precision};

use crate::local::open_file;
use crate::shapes::Shapes;

const MAX_TUNING_BYTES: u64 = 1 << 20;

#[derive(clap::Args, Clone)]
pub(crate) struct CompileArgs {
    #[command(flatten)]
    pub(crate) shapes: Shapes,
    /// `fast` rounds the operands of products with constant weights, and of attention, to bf16, where the target
    /// multiplies those fast.
    #[arg(long, default_value = "exact", value_parser = parse_precision, value_name = "exact|fast")]
    pub(crate) precision: Precision,
    /// What `irectl tune` measured to be the fastest for this target.
    #[arg(long, value_name = "FILE", value_parser = read_tuning)]
    pub(crate) tuning: Option<String>,
}

impl CompileArgs {
    pub(crate) fn options(&self) -> CompileOptions {
        CompileOptions {
            shapes: self.shapes.shapes.clone(),
            precision: self.precision,
            tuning: self.tuning.clone(),
            ..CompileOptions::default()
        }
    }

    /// That nothing is said, for what is compiled already.
    pub(crate) fn ensure_none(&self, path: &Path) -> Result<()> {
        let path = path.display();
        ensure!(self.shapes.shapes.is_empty(), "`{path}` is compiled: `--shape` goes with a model");
        ensure!(self.precision == Precision::Exact, "`{path}` is compiled: `--precision` goes with a model");
        ensure!(self.tuning.is_none(), "`{path}` is compiled: `--tuning` goes with a model");
        Ok(())
    }
}

/// The text of a tuning file; the compiler says what is wrong with it.
fn read_tuning(path: &str) -> Result<String, String> {
    let file = open_file(Path::new(path)).map_err(|error| format!("{error:#}"))?;
    let mut text = String::new();
    match file.take(MAX_TUNING_BYTES + 1).read_to_string(&mut text) {
        Ok(bytes) if bytes as u64 > MAX_TUNING_BYTES => {
            Err(format!("`{path}` is more than {MAX_TUNING_BYTES} bytes: no tuning file"))
        }
        Ok(_) => Ok(text),
        Err(error) => Err(format!("cannot read `{path}`: {error}")),
    }
}

fn parse_precision(text: &str) -> Result<Precision, String> {
    match text {
        "exact" => Ok(Precision::Exact),
        "fast" => Ok(Precision::Fast),
        _ => Err("expected `exact` or `fast`".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_TUNING_BYTES, read_tuning};

    #[test]
    fn tuning_files_are_short_texts() {
        let folder = tempfile::tempdir().unwrap();
        let read = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            read_tuning(path.to_str().unwrap())
        };
        assert_eq!(read("text", b"version = 1"), Ok("version = 1".to_owned()));
        assert!(read("bytes", &[0xff]).unwrap_err().contains("cannot read"));
        assert!(read("long", &vec![b'#'; MAX_TUNING_BYTES as usize + 1]).unwrap_err().contains("more than"));
        assert!(read_tuning("/no/such/file").unwrap_err().contains("cannot open"));
    }
}
