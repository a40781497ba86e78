//! Turns a failure into one line a person can act on.
//!
//! libcontainer reports the cause of a failure only through `tracing`, often from a cloned child, while the error
//! that comes back says "failed to prepare rootfs" and no more. So error events of this process and its clones are
//! collected in an anonymous file, and the first of them is added to the error that is reported.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::Context;
use nix::sys::memfd::{MFdFlags, memfd_create};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span;

use crate::args::LogFormat;

/// More error events than this are not worth reading.
const EVENTS_SIZE_BYTES_MAX: usize = 16 * 1024;

/// Where failures of this process are told.
pub(crate) struct Diagnosis {
    log: Option<File>,
    format: LogFormat,
    events: File,
}

impl Diagnosis {
    /// Opens the log file and starts collecting error events.
    pub(crate) fn start(log: Option<&Path>, format: LogFormat) -> anyhow::Result<Self> {
        let log = log
            .map(|path| {
                File::options()
                    .append(true)
                    .create(true)
                    .open(path)
                    .with_context(|| format!("cannot open log {path:?}"))
            })
            .transpose()?;
        let events =
            File::from(memfd_create("oci-events", MFdFlags::MFD_CLOEXEC).context("cannot make a memory file")?);
        let collector = Collector {
            events: events.try_clone().context("cannot duplicate a memory file")?,
        };
        tracing::subscriber::set_global_default(collector).context("events are collected already")?;
        Ok(Self { log, format, events })
    }

    /// Writes `error` to the log file and to standard error.
    pub(crate) fn report(&self, error: &anyhow::Error) {
        let message = explain(&format!("{error:#}"), &self.events());
        eprintln!("{message}");
        let Some(mut log) = self.log.as_ref() else { return };
        let line = match self.format {
            LogFormat::Text => format!(
                "time={:?} level=error msg={message:?}\n",
                jiff::Timestamp::now().to_string()
            ),
            LogFormat::Json => {
                let time = jiff::Timestamp::now().to_string();
                format!(
                    "{}\n",
                    serde_json::json!({"level": "error", "msg": message, "time": time})
                )
            }
        };
        if let Err(error) = log.write_all(line.as_bytes()) {
            eprintln!("cannot write the log: {error}");
        }
    }

    fn events(&self) -> Vec<String> {
        let mut bytes = vec![0; EVENTS_SIZE_BYTES_MAX];
        let size = self.events.read_at(&mut bytes, 0).unwrap_or(0);
        String::from_utf8_lossy(&bytes[..size])
            .lines()
            .map(str::to_owned)
            .collect()
    }
}

/// The error as its caller should read it: the cause first found, without the layers that only repeat it.
fn explain(error: &str, events: &[String]) -> String {
    let all = std::iter::once(error).chain(events.iter().map(String::as_str));
    // Our own executor's words are exact; what libcontainer wraps around them is noise.
    for text in all {
        if let Some(at) = text.find("exec: \"") {
            return format!("unable to start container process: {}", text[at..].trim_end());
        }
    }
    match events.first() {
        Some(cause) if !error.contains(cause.as_str()) => format!("{error}: {cause}"),
        _ => error.to_owned(),
    }
}

/// A subscriber that keeps nothing but the text of error events.
struct Collector {
    events: File,
}

impl tracing::Subscriber for Collector {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::ERROR
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::ERROR)
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        let text = format!("{}{}\n", line.message, line.fields).replace('\n', " ");
        let mut events = &self.events;
        // Nothing can be done about a diagnosis that cannot be kept, and the failure itself is still reported.
        events
            .write_all(format!("{}\n", text.trim_end()).as_bytes())
            .unwrap_or_default();
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// The text of one event.
#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let written = if field.name() == "message" {
            write!(self.message, "{value:?}")
        } else {
            write!(self.fields, ", {}: {value:?}", field.name())
        };
        written.expect("writing to a string cannot fail");
    }
}

#[cfg(test)]
mod tests {
    use super::explain;

    #[test]
    fn words_of_the_executor_win() {
        let error = "failed to create container: exec process failed with error exec: \"foo\": not found";
        assert_eq!(
            explain(error, &[]),
            "unable to start container process: exec: \"foo\": not found"
        );
    }

    #[test]
    fn first_event_names_the_cause() {
        let events = ["failed to mount, err: ENOENT".to_owned(), "later".to_owned()];
        assert_eq!(
            explain("failed to prepare rootfs", &events),
            "failed to prepare rootfs: failed to mount, err: ENOENT"
        );
    }
}
