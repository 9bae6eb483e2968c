//! What irectl says. Whoever reads it may have seen enough, as `head` has after its lines: it ends quietly then, as other tools
//! do. The macros are called like those of the standard library, which would panic, so that nothing is printed by those.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};

macro_rules! print {
    ($($text:tt)*) => { $crate::print::out(format_args!($($text)*)) };
}

macro_rules! println {
    ($($text:tt)*) => { $crate::print::out(format_args!("{}\n", format_args!($($text)*))) };
}

macro_rules! eprintln {
    ($($text:tt)*) => { $crate::print::err(format_args!("{}\n", format_args!($($text)*))) };
}

/// Writes to standard output, or ends.
pub(crate) fn out(text: Arguments<'_>) {
    let mut out = io::stdout().lock();
    match out.write_fmt(text).and_then(|()| out.flush()) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => {
            err(format_args!("error: cannot write standard output\n  because: {error}\n"));
            std::process::exit(crate::exit::FAILED.into());
        }
    }
}

/// Writes to standard error. Where nobody reads that, the exit code has to do.
pub(crate) fn err(text: Arguments<'_>) {
    let _ = io::stderr().lock().write_fmt(text);
}
