//! Streams a container's log to a reader, as `kubectl logs` wants it.

use crate::log_file::{self, Entry};
use crate::run::Node;
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use node_plan::ContainerState;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::mpsc;

/// Between two looks at a followed file.
const POLL: Duration = Duration::from_millis(100);
/// Between two questions whether the container still runs.
const STATE_POLL: Duration = Duration::from_secs(1);
/// Read in pieces of this size.
const CHUNK: usize = 64 * 1024;
/// Pieces that wait for a slow reader; then reading waits, too.
const QUEUE: usize = 8;

/// What the reader wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// Go on while the container runs.
    pub(crate) follow: bool,
    /// Only the last entries.
    pub(crate) tail_lines: Option<u64>,
    /// No more than this.
    pub(crate) limit_bytes: Option<u64>,
    /// Only what is as new as this.
    pub(crate) since: Option<Timestamp>,
    /// Put the time before each line.
    pub(crate) timestamps: bool,
    /// Only this stream (`stdout`, `stderr`).
    pub(crate) stream: Option<String>,
}

impl Options {
    /// Reads the query of a request.
    ///
    /// # Errors
    /// A value that makes no sense.
    pub(crate) fn parse(query: &[(String, String)]) -> Result<Self, String> {
        let mut options = Self::default();
        for (name, value) in query {
            let number = || value.parse::<u64>().map_err(|_| format!("invalid {name}: {value:?}"));
            match name.as_str() {
                "follow" => options.follow = is_true(value),
                "timestamps" => options.timestamps = is_true(value),
                "tailLines" | "tail" => options.tail_lines = Some(number()?),
                "limitBytes" => options.limit_bytes = Some(number()?),
                "sinceSeconds" => {
                    let seconds = i64::try_from(number()?).unwrap_or(i64::MAX);
                    options.since = Timestamp::now().checked_sub(SignedDuration::from_secs(seconds)).ok();
                }
                "sinceTime" => {
                    options.since = Some(value.parse().map_err(|_| format!("invalid sinceTime: {value:?}"))?);
                }
                "stream" if value == "Stdout" => options.stream = Some("stdout".into()),
                "stream" if value == "Stderr" => options.stream = Some("stderr".into()),
                _ => {}
            }
        }
        Ok(options)
    }
}

/// The truth of a query value.
pub(crate) fn is_true(value: &str) -> bool {
    matches!(value, "1" | "true" | "True" | "TRUE" | "t" | "T" | "")
}

/// Sends a log piece by piece; the stream ends with the log, or with the reader.
pub(crate) fn stream(
    node: Arc<Node>,
    path: PathBuf,
    container_id: String,
    options: Options,
) -> mpsc::Receiver<io::Result<Bytes>> {
    let (pieces, reader) = mpsc::channel(QUEUE);
    // Ends by itself when the reader is gone.
    tokio::spawn(async move {
        let mut writer = Writer {
            pieces,
            left: options.limit_bytes,
            out: Vec::new(),
            is_line_start: true,
            options,
        };
        if let Err(error) = copy(&node, &path, &container_id, &mut writer).await {
            tracing::debug!(%error, path = %path.display(), "reading a log failed");
            writer.fail(error).await;
        }
    });
    reader
}

struct Writer {
    pieces: mpsc::Sender<io::Result<Bytes>>,
    left: Option<u64>,
    out: Vec<u8>,
    is_line_start: bool,
    options: Options,
}

impl Writer {
    /// Takes one entry.
    fn add(&mut self, entry: Entry<'_>) {
        let is_wanted = self.options.stream.as_deref().is_none_or(|s| s == entry.stream);
        let is_new = self
            .options
            .since
            .is_none_or(|since| entry.time.parse::<Timestamp>().is_ok_and(|t| t >= since));
        if !is_wanted || !is_new {
            return;
        }
        if self.options.timestamps && self.is_line_start {
            self.out.extend_from_slice(entry.time.as_bytes());
            self.out.push(b' ');
        }
        self.out.extend_from_slice(entry.content);
        if !entry.is_partial {
            self.out.push(b'\n');
        }
        self.is_line_start = !entry.is_partial;
    }

    /// Sends what was taken; whether the reader wants more.
    async fn flush(&mut self) -> bool {
        let mut piece = std::mem::take(&mut self.out);
        if let Some(left) = &mut self.left {
            piece.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= u64::try_from(piece.len()).unwrap_or(0);
        }
        if !piece.is_empty() && self.pieces.send(Ok(Bytes::from(piece))).await.is_err() {
            return false;
        }
        self.left != Some(0) && !self.pieces.is_closed()
    }

    async fn fail(&mut self, error: io::Error) {
        if self.pieces.send(Err(error)).await.is_err() {
            tracing::debug!("the log's reader is gone");
        }
    }
}

async fn open(path: &Path, tail_lines: Option<u64>) -> io::Result<File> {
    let path = path.to_owned();
    let opened = tokio::task::spawn_blocking(move || {
        let mut file = std::fs::File::open(path)?;
        let offset = match tail_lines {
            Some(lines) => log_file::tail_offset(&mut file, lines)?,
            None => 0,
        };
        Ok::<_, io::Error>((file, offset))
    });
    let (file, offset) = opened.await.map_err(io::Error::other)??;
    let mut file = File::from_std(file);
    file.seek(io::SeekFrom::Start(offset)).await?;
    Ok(file)
}

async fn copy(node: &Node, path: &Path, container_id: &str, writer: &mut Writer) -> io::Result<()> {
    let mut file = open(path, writer.options.tail_lines).await?;
    let mut rest = Vec::new();
    let mut asked = Instant::now();
    let mut ended = false;
    loop {
        if !drain(&mut file, &mut rest, writer).await? {
            return Ok(());
        }
        if !writer.options.follow || ended {
            return finish(&rest, writer).await;
        }
        if let Some(next) = rotated(&file, path).await? {
            // What came to the old file between the last look and the rotation.
            drain(&mut file, &mut rest, writer).await?;
            file = next;
            continue;
        }
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            () = writer.pieces.closed() => return Ok(()),
        }
        if asked.elapsed() >= STATE_POLL {
            asked = Instant::now();
            // What was written before the end is read once more.
            ended = !is_running(node, container_id).await;
        }
    }
}

/// Copies what there is; whether the reader wants more.
async fn drain(file: &mut File, rest: &mut Vec<u8>, writer: &mut Writer) -> io::Result<bool> {
    loop {
        let from = rest.len();
        rest.resize(from + CHUNK, 0);
        let read = file.read(&mut rest[from..]).await;
        rest.truncate(from + *read.as_ref().unwrap_or(&0));
        let read = read?;
        let end = rest.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        rest[..end]
            .split(|b| *b == b'\n')
            .filter_map(log_file::parse)
            .for_each(|entry| writer.add(entry));
        rest.drain(..end);
        if !writer.flush().await {
            return Ok(false);
        }
        if read == 0 {
            return Ok(true);
        }
    }
}

/// An entry without a line end, because the runtime died over it, is an entry all the same.
async fn finish(rest: &[u8], writer: &mut Writer) -> io::Result<()> {
    if let Some(entry) = log_file::parse(rest) {
        writer.add(entry);
        writer.flush().await;
    }
    Ok(())
}

/// The new file, if the path names another than the open one.
async fn rotated(file: &File, path: &Path) -> io::Result<Option<File>> {
    let now = match tokio::fs::metadata(path).await {
        Ok(meta) => meta,
        // Between the two steps of a rotation.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let open_one = file.metadata().await?;
    if (open_one.dev(), open_one.ino()) == (now.dev(), now.ino()) {
        return Ok(None);
    }
    File::open(path).await.map(Some)
}

async fn is_running(node: &Node, container_id: &str) -> bool {
    match node.runtime.container(container_id, "").await {
        Ok(Some(record)) => record.container.state == ContainerState::Running,
        Ok(None) => false,
        // The runtime is away for a moment; the container is not.
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn options_shape_the_output() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let text = "2026-11-22T11:00:00Z stdout F one\n\
                    2026-11-22T11:00:01Z stderr P tw\n\
                    2026-11-22T11:00:01Z stderr F o\n\
                    2026-11-22T11:00:02Z stdout F three\n";
        std::fs::write(&path, text).unwrap();
        let check = async |options: Options, expected: &str| {
            let (pieces, mut reader) = mpsc::channel(QUEUE);
            let mut writer = Writer {
                pieces,
                left: options.limit_bytes,
                out: Vec::new(),
                is_line_start: true,
                options: options.clone(),
            };
            let mut file = open(&path, options.tail_lines).await.unwrap();
            drain(&mut file, &mut Vec::new(), &mut writer).await.unwrap();
            drop(writer);
            let mut out = Vec::new();
            while let Some(piece) = reader.recv().await {
                out.extend_from_slice(&piece.unwrap());
            }
            assert_eq!(String::from_utf8(out).unwrap(), expected, "{options:?}");
        };
        check(Options::default(), "one\ntwo\nthree\n").await;
        check(
            Options {
                tail_lines: Some(1),
                ..Options::default()
            },
            "three\n",
        )
        .await;
        check(
            Options {
                limit_bytes: Some(5),
                ..Options::default()
            },
            "one\nt",
        )
        .await;
        let since = "2026-11-22T11:00:01Z".parse().ok();
        check(
            Options {
                since,
                ..Options::default()
            },
            "two\nthree\n",
        )
        .await;
        check(
            Options {
                stream: Some("stderr".into()),
                ..Options::default()
            },
            "two\n",
        )
        .await;
        let stamped = Options {
            timestamps: true,
            since,
            ..Options::default()
        };
        check(stamped, "2026-11-22T11:00:01Z two\n2026-11-22T11:00:02Z three\n").await;
    }

    #[test]
    fn queries() {
        let query = |text: &[(&str, &str)]| {
            text.iter()
                .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
                .collect::<Vec<_>>()
        };
        let options = Options::parse(&query(&[("follow", "true"), ("tailLines", "5"), ("limitBytes", "9")])).unwrap();
        assert_eq!(
            (options.follow, options.tail_lines, options.limit_bytes),
            (true, Some(5), Some(9))
        );
        assert!(Options::parse(&query(&[("tailLines", "x")])).is_err());
        assert!(Options::parse(&query(&[("sinceTime", "yesterday")])).is_err());
    }
}
