//! Container logs as CRI runtimes write them: `TIME STREAM TAG CONTENT`, one entry a line; tag `P` is a piece of a line
//! that goes on in the next entry of the stream, `F` its end.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// Read backwards in pieces of this size.
const BLOCK: u64 = 64 * 1024;

/// One entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry<'a> {
    /// RFC 3339 with nanoseconds, as it stands.
    pub(crate) time: &'a str,
    /// `stdout` or `stderr`.
    pub(crate) stream: &'a str,
    /// Whether the line goes on in the next entry.
    pub(crate) is_partial: bool,
    /// The text, without a line end.
    pub(crate) content: &'a [u8],
}

/// Reads an entry (without its line end); `None` if it is none.
pub(crate) fn parse(line: &[u8]) -> Option<Entry<'_>> {
    let mut fields = line.splitn(4, |b| *b == b' ');
    let time = std::str::from_utf8(fields.next()?).ok()?;
    let stream = std::str::from_utf8(fields.next()?).ok()?;
    let tags = std::str::from_utf8(fields.next()?).ok()?;
    if !matches!(stream, "stdout" | "stderr") {
        return None;
    }
    let is_partial = tags.split(':').next() == Some("P");
    Some(Entry {
        time,
        stream,
        is_partial,
        content: fields.next().unwrap_or_default(),
    })
}

/// Where the last `lines` entries begin.
pub(crate) fn tail_offset(file: &mut File, lines: u64) -> io::Result<u64> {
    let end = file.seek(SeekFrom::End(0))?;
    if lines == 0 {
        return Ok(end);
    }
    let mut left = end;
    let mut found = 0;
    while left > 0 {
        let size = left.min(BLOCK);
        left -= size;
        file.seek(SeekFrom::Start(left))?;
        let mut block = vec![0; usize::try_from(size).unwrap_or(0)];
        file.read_exact(&mut block)?;
        for (i, byte) in block.iter().enumerate().rev() {
            let at = left + u64::try_from(i).unwrap_or(0);
            // The last entry's own line end does not begin another.
            if *byte != b'\n' || at + 1 == end {
                continue;
            }
            found += 1;
            if found == lines {
                return Ok(at + 1);
            }
        }
    }
    Ok(0)
}

/// The text of the last entries, of at most so many lines and bytes.
pub(crate) fn tail(path: &Path, lines_max: usize, bytes_max: usize) -> io::Result<String> {
    let mut file = File::open(path)?;
    let offset = tail_offset(&mut file, u64::try_from(lines_max).unwrap_or(u64::MAX))?;
    file.seek(SeekFrom::Start(offset))?;
    let mut raw = Vec::new();
    file.read_to_end(&mut raw)?;
    let mut text = Vec::new();
    for entry in raw.split(|b| *b == b'\n').filter_map(parse) {
        text.extend_from_slice(entry.content);
        if !entry.is_partial {
            text.push(b'\n');
        }
    }
    let start = text.len().saturating_sub(bytes_max);
    Ok(String::from_utf8_lossy(&text[start..]).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries() {
        let line = b"2026-11-22T11:30:00.000000001Z stderr P a b  c";
        let entry = Entry {
            time: "2026-11-22T11:30:00.000000001Z",
            stream: "stderr",
            is_partial: true,
            content: b"a b  c",
        };
        assert_eq!(parse(line), Some(entry));
        assert_eq!(
            parse(b"2026-11-22T11:30:00Z stdout F ").map(|e| e.content),
            Some(&b""[..])
        );
        assert_eq!(parse(b"garbage"), None);
        assert_eq!(parse(b"t nowhere F x"), None);
    }

    #[test]
    fn tails() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let text: String = (0..10_000)
            .map(|i| format!("2026-11-22T11:30:00Z stdout F line {i}\n"))
            .collect();
        std::fs::write(&path, &text).unwrap();
        let offset = |lines| tail_offset(&mut File::open(&path).unwrap(), lines).unwrap();
        assert_eq!(usize::try_from(offset(0)).unwrap(), text.len());
        assert!(text[usize::try_from(offset(2)).unwrap()..].contains("line 9998\n"));
        assert_eq!(text[usize::try_from(offset(9_000)).unwrap()..].lines().count(), 9_000);
        assert_eq!(offset(20_000), 0);
        assert_eq!(tail(&path, 2, 2048).unwrap(), "line 9998\nline 9999\n");
        assert_eq!(tail(&path, 80, 10).unwrap(), "line 9999\n");
    }
}
