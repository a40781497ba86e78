//! The CRI log format: `time stream F line`, with `P` for all but the last piece of a long line.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Longer lines are written in pieces of this size, as other runtimes do.
const LINE_SIZE_BYTES_MAX: usize = 16 * 1024;

/// One of the two output streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    Out,
    Err,
}

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Self::Out => "stdout",
            Self::Err => "stderr",
        }
    }
}

/// The log file of a container.
pub(super) struct Log {
    path: Option<PathBuf>,
    file: Option<File>,
    /// The unfinished line of each stream.
    unfinished: [Vec<u8>; 2],
}

impl Log {
    /// Opens the log file for appending, with its folder.
    pub(super) fn open(path: Option<PathBuf>) -> io::Result<Self> {
        let file = path.as_deref().map(open).transpose()?;
        Ok(Self {
            path,
            file,
            unfinished: [Vec::new(), Vec::new()],
        })
    }

    /// Opens the path again, after the file was renamed away. The old file is kept if that fails.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        if let Some(path) = &self.path {
            self.file = Some(open(path)?);
        }
        Ok(())
    }

    /// Adds output of one stream.
    pub(super) fn add(&mut self, stream: Stream, bytes: &[u8], now: impl Fn() -> String) {
        let Some(file) = self.file.as_mut() else { return };
        let unfinished = &mut self.unfinished[stream as usize];
        unfinished.extend_from_slice(bytes);
        let mut lines = Vec::with_capacity(bytes.len() + 64);
        let mut rest = unfinished.as_slice();
        let time = now();
        while let Some((piece, tag, after)) = next_piece(rest) {
            push_line(&mut lines, &time, stream, tag, piece);
            rest = after;
        }
        let used = unfinished.len() - rest.len();
        unfinished.drain(..used);
        save(file, &lines);
    }

    /// Writes the last line of a stream that ended without a newline, marked partial so that readers add none.
    pub(super) fn finish(&mut self, stream: Stream, now: impl Fn() -> String) {
        let line = std::mem::take(&mut self.unfinished[stream as usize]);
        let (Some(file), false) = (self.file.as_mut(), line.is_empty()) else {
            return;
        };
        let mut lines = Vec::new();
        push_line(&mut lines, &now(), stream, 'P', &line);
        save(file, &lines);
    }
}

fn open(path: &Path) -> io::Result<File> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::os::unix::fs::OpenOptionsExt::mode(File::options().append(true).create(true), 0o640).open(path)
}

/// The first piece that can be written, its tag, and what follows it.
fn next_piece(bytes: &[u8]) -> Option<(&[u8], char, &[u8])> {
    let window = &bytes[..bytes.len().min(LINE_SIZE_BYTES_MAX + 1)];
    match window.iter().position(|&byte| byte == b'\n') {
        Some(end) => Some((&bytes[..end], 'F', &bytes[end + 1..])),
        None if bytes.len() > LINE_SIZE_BYTES_MAX => {
            let (piece, after) = bytes.split_at(LINE_SIZE_BYTES_MAX);
            Some((piece, 'P', after))
        }
        None => None,
    }
}

fn push_line(lines: &mut Vec<u8>, time: &str, stream: Stream, tag: char, line: &[u8]) {
    lines.extend_from_slice(format!("{time} {} {tag} ", stream.name()).as_bytes());
    lines.extend_from_slice(line);
    lines.push(b'\n');
}

/// A full disk must not stop the container, so what cannot be written is lost, and said so in the monitor's own log.
fn save(file: &mut File, lines: &[u8]) {
    if let Err(error) = file.write_all(lines) {
        eprintln!("monitor: cannot write the container's log: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(input: &[(Stream, &[u8])]) -> String {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("pod/0.log");
        let mut log = Log::open(Some(path.clone())).expect("opened");
        for (stream, bytes) in input {
            log.add(*stream, bytes, || "T".to_owned());
        }
        log.finish(Stream::Out, || "T".to_owned());
        log.finish(Stream::Err, || "T".to_owned());
        std::fs::read_to_string(path).expect("readable")
    }

    #[test]
    fn lines_are_tagged() {
        assert_eq!(written(&[(Stream::Out, b"a\nb\n")]), "T stdout F a\nT stdout F b\n");
        assert_eq!(
            written(&[(Stream::Out, b"a"), (Stream::Err, b"x\n"), (Stream::Out, b"b\n")]),
            "T stderr F x\nT stdout F ab\n"
        );
        assert_eq!(written(&[(Stream::Out, b"no newline")]), "T stdout P no newline\n");
        assert_eq!(written(&[]), "");
    }

    #[test]
    fn long_lines_are_cut() {
        let mut line = vec![b'x'; LINE_SIZE_BYTES_MAX + 3];
        line.push(b'\n');
        let piece = "x".repeat(LINE_SIZE_BYTES_MAX);
        assert_eq!(
            written(&[(Stream::Out, &line)]),
            format!("T stdout P {piece}\nT stdout F xxx\n")
        );
        let mut exact = vec![b'y'; LINE_SIZE_BYTES_MAX];
        exact.push(b'\n');
        assert_eq!(
            written(&[(Stream::Out, &exact)]),
            format!("T stdout F {}\n", "y".repeat(LINE_SIZE_BYTES_MAX))
        );
    }

    #[test]
    fn a_rotated_log_goes_on_in_a_new_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, old) = (folder.path().join("0.log"), folder.path().join("0.log.1"));
        let mut log = Log::open(Some(path.clone())).expect("opened");
        log.add(Stream::Out, b"one\n", || "T".to_owned());
        std::fs::rename(&path, &old).expect("rotated");
        log.add(Stream::Out, b"two\n", || "T".to_owned());
        log.reopen().expect("reopened");
        log.add(Stream::Out, b"three\n", || "T".to_owned());
        assert_eq!(
            std::fs::read_to_string(&old).expect("old"),
            "T stdout F one\nT stdout F two\n"
        );
        assert_eq!(std::fs::read_to_string(&path).expect("new"), "T stdout F three\n");
    }
}
