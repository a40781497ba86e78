//! The process that owns one container.

/// Runs the monitor; `args` are the words after `monitor`. Returns the exit code.
#[must_use]
pub fn main(args: Vec<String>) -> i32 {
    eprintln!("unknown words {args:?}");
    2
}
