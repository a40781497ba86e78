//! Where a rollout is shown: lines that scroll and, on a terminal, a block below them that is redrawn.

use std::io::{IsTerminal, Write};
use std::time::Instant;

/// Standard output.
pub(crate) struct Screen {
    started: Instant,
    is_terminal: bool,
    block: Vec<String>,
}

impl Screen {
    /// A screen whose clock starts now.
    pub(crate) fn new() -> Self {
        Self {
            started: Instant::now(),
            is_terminal: std::io::stdout().is_terminal(),
            block: Vec::new(),
        }
    }

    /// Adds lines (with the time that has passed before each) and, on a terminal, redraws the block below them.
    pub(crate) fn show(&mut self, lines: &[String], block: &[String]) {
        if lines.is_empty() && (!self.is_terminal || block == self.block) {
            return;
        }
        let at = self.started.elapsed().as_secs_f32();
        let lines: Vec<String> = lines.iter().map(|line| format!("{at:7.2}s  {line}")).collect();
        self.draw(&lines, block);
    }

    /// Adds a line as it is.
    pub(crate) fn say(&mut self, line: &str) {
        let block = std::mem::take(&mut self.block);
        self.erase(block.len());
        self.draw(&[line.to_owned()], &block);
    }

    /// A heading.
    pub(crate) fn head(&mut self, text: &str) {
        let line = if self.is_terminal {
            format!("\n\x1b[1m{text}\x1b[0m")
        } else {
            format!("\n{text}")
        };
        self.say(&line);
    }

    /// A check that held.
    pub(crate) fn check(&mut self, text: &str) {
        let line = if self.is_terminal {
            format!("          \x1b[32m✓\x1b[0m {text}")
        } else {
            format!("          ✓ {text}")
        };
        self.say(&line);
    }

    /// Leaves the block standing where it is: what follows is written below it.
    pub(crate) fn leave_block(&mut self) {
        self.block.clear();
    }

    fn erase(&self, count: usize) {
        if self.is_terminal && count > 0 {
            tell(format_args!("\x1b[{count}A\x1b[J"));
        }
    }

    fn draw(&mut self, lines: &[String], block: &[String]) {
        self.erase(self.block.len());
        for line in lines {
            tell(format_args!("{line}\n"));
        }
        self.block.clear();
        if self.is_terminal {
            let width = terminal_width();
            for line in block {
                tell(format_args!("{}\n", clip(line, width)));
            }
            self.block = block.to_vec();
        }
        tell(format_args!(""));
    }
}

/// Writes to standard output. A closed pipe behind us is no reason to stop what is being watched, let alone a daemon.
pub(crate) fn tell(text: std::fmt::Arguments<'_>) {
    let mut out = std::io::stdout();
    out.write_fmt(text).and_then(|()| out.flush()).ok();
}

fn terminal_width() -> usize {
    terminal_size::terminal_size().map_or(100, |(width, _)| usize::from(width.0))
}

/// The first `width` characters: a line that wraps would spoil the count of lines to erase.
fn clip(line: &str, width: usize) -> String {
    line.chars().take(width.saturating_sub(1)).collect()
}
