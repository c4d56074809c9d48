//! Lines for people. Whoever reads them may have enough, as in `pulsestream settings | head -1`: the work goes on without words.

use std::fmt::Arguments;
use std::io::Write;

/// Writes a line to standard output.
macro_rules! say {
    ($($arg:tt)*) => { $crate::print::to_output(format_args!($($arg)*)) };
}

/// Writes a line to standard error.
macro_rules! complain {
    ($($arg:tt)*) => { $crate::print::to_error(format_args!($($arg)*)) };
}

pub(crate) fn to_output(line: Arguments<'_>) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

pub(crate) fn to_error(line: Arguments<'_>) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}
