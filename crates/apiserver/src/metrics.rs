//! What the server counts about itself, in the text form of Prometheus, under upstream's names.

use crate::server::Server;
use api::kinds;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use store::RangeRequest;

/// Upper bounds of the buckets of request durations, in seconds; upstream's.
const BUCKETS_S: &[f64] = &[
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0,
    45.0, 60.0,
];

const POISONED: &str = "nothing panics while it holds the counters";

/// How a request is counted. All parts are of bounded sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Labels {
    pub(crate) verb: &'static str,
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    pub(crate) resource: &'static str,
    pub(crate) subresource: &'static str,
    /// `resource`, `namespace`, `cluster`, or empty for what is no resource.
    pub(crate) scope: &'static str,
    pub(crate) dry_run: bool,
}

/// Counters of the server.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    requests: Mutex<BTreeMap<(Labels, u16), u64>>,
    durations: Mutex<BTreeMap<Labels, Histogram>>,
    long_running: Mutex<BTreeMap<Labels, i64>>,
    /// Requests being worked on: that read, that write.
    pub(crate) reading: AtomicI64,
    pub(crate) writing: AtomicI64,
    /// Requests turned away because too many were being worked on.
    pub(crate) reads_dropped: AtomicU64,
    pub(crate) writes_dropped: AtomicU64,
    pub(crate) authenticated: AtomicU64,
    pub(crate) not_authenticated: AtomicU64,
    pub(crate) audited: AtomicU64,
}

#[derive(Clone, Debug, Default)]
struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    sum_s: f64,
}

impl Histogram {
    fn observe(&mut self, seconds: f64) {
        self.buckets.resize(BUCKETS_S.len(), 0);
        for (bucket, bound) in self.buckets.iter_mut().zip(BUCKETS_S) {
            *bucket += u64::from(seconds <= *bound);
        }
        self.count += 1;
        self.sum_s += seconds;
    }
}

/// A request that goes on after its answer has begun; counted until this is dropped.
#[derive(Debug)]
pub(crate) struct LongRunning {
    server: Arc<Server>,
    labels: Labels,
}

impl LongRunning {
    pub(crate) fn begin(server: &Arc<Server>, labels: Labels) -> Self {
        *server
            .metrics
            .long_running
            .lock()
            .expect(POISONED)
            .entry(labels)
            .or_default() += 1;
        Self {
            server: Arc::clone(server),
            labels,
        }
    }
}

impl Drop for LongRunning {
    fn drop(&mut self) {
        let mut open = self.server.metrics.long_running.lock().expect(POISONED);
        *open.entry(self.labels).or_default() -= 1;
    }
}

impl Metrics {
    /// Counts an answered request; how long it took, unless it goes on.
    pub(crate) fn answered(&self, labels: Labels, code: u16, took: Option<Duration>) {
        *self.requests.lock().expect(POISONED).entry((labels, code)).or_default() += 1;
        if let Some(took) = took {
            let mut durations = self.durations.lock().expect(POISONED);
            durations.entry(labels).or_default().observe(took.as_secs_f64());
        }
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let name = "apiserver_request_total";
        head(out, name, "counter", "Requests by verb, resource, scope and HTTP code.")?;
        for ((labels, code), count) in self.requests.lock().expect(POISONED).iter() {
            let dry_run = if labels.dry_run { "All" } else { "" };
            writeln!(out, "{name}{{code=\"{code}\",{labels},dry_run=\"{dry_run}\"}} {count}")?;
        }
        self.write_durations(out)?;
        let name = "apiserver_longrunning_requests";
        head(out, name, "gauge", "Watches, logs and other streams that are open.")?;
        for (labels, count) in self.long_running.lock().expect(POISONED).iter() {
            writeln!(out, "{name}{{{labels}}} {count}")?;
        }
        let gauge = |number: &AtomicI64| number.load(Ordering::Relaxed);
        let counter = |number: &AtomicU64| number.load(Ordering::Relaxed);
        let name = "apiserver_current_inflight_requests";
        head(
            out,
            name,
            "gauge",
            "Requests being worked on, without those that are long running.",
        )?;
        writeln!(out, "{name}{{request_kind=\"readOnly\"}} {}", gauge(&self.reading))?;
        writeln!(out, "{name}{{request_kind=\"mutating\"}} {}", gauge(&self.writing))?;
        let name = "apiserver_dropped_requests_total";
        head(
            out,
            name,
            "counter",
            "Requests turned away because too many were being worked on.",
        )?;
        writeln!(
            out,
            "{name}{{request_kind=\"readOnly\"}} {}",
            counter(&self.reads_dropped)
        )?;
        writeln!(
            out,
            "{name}{{request_kind=\"mutating\"}} {}",
            counter(&self.writes_dropped)
        )?;
        let name = "authentication_attempts";
        head(
            out,
            name,
            "counter",
            "Requests by whether their identity was established.",
        )?;
        writeln!(out, "{name}{{result=\"success\"}} {}", counter(&self.authenticated))?;
        writeln!(out, "{name}{{result=\"failure\"}} {}", counter(&self.not_authenticated))?;
        let name = "apiserver_audit_event_total";
        head(out, name, "counter", "Events written to the audit log.")?;
        writeln!(out, "{name} {}", counter(&self.audited))
    }

    fn write_durations(&self, out: &mut String) -> std::fmt::Result {
        let name = "apiserver_request_duration_seconds";
        head(
            out,
            name,
            "histogram",
            "How long requests took, without those that are long running.",
        )?;
        for (labels, histogram) in self.durations.lock().expect(POISONED).iter() {
            let dry_run = if labels.dry_run { "All" } else { "" };
            let labels = format!("{labels},dry_run=\"{dry_run}\"");
            for (bucket, bound) in histogram.buckets.iter().zip(BUCKETS_S) {
                writeln!(out, "{name}_bucket{{{labels},le=\"{bound}\"}} {bucket}")?;
            }
            writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {}", histogram.count)?;
            writeln!(out, "{name}_sum{{{labels}}} {}", histogram.sum_s)?;
            writeln!(out, "{name}_count{{{labels}}} {}", histogram.count)?;
        }
        Ok(())
    }
}

impl std::fmt::Display for Labels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            verb,
            group,
            version,
            resource,
            subresource,
            scope,
            dry_run: _,
        } = self;
        write!(
            f,
            "component=\"apiserver\",group=\"{group}\",resource=\"{resource}\",scope=\"{scope}\",\
             subresource=\"{subresource}\",verb=\"{verb}\",version=\"{version}\""
        )
    }
}

fn head(out: &mut String, name: &str, of_type: &str, help: &str) -> std::fmt::Result {
    writeln!(out, "# HELP {name} {help}\n# TYPE {name} {of_type}")
}

/// The text that scrapers read.
pub(crate) async fn text(server: &Server) -> String {
    let mut out = String::new();
    let counts = object_counts(server).await;
    let written = server
        .metrics
        .write(&mut out)
        .and_then(|()| write_objects(&mut out, &counts))
        .and_then(|()| write_build(&mut out, &server.config.git_version))
        .and_then(|()| write_process(&mut out));
    written.expect("a string takes all that is written to it");
    out
}

/// How many objects of each kind of the table are stored.
async fn object_counts(server: &Server) -> Vec<(&'static str, &'static str, usize)> {
    let mut counts = Vec::new();
    for kind in kinds::kinds().iter().filter(|kind| kind.storage_group == kind.group) {
        let start = crate::names::kind_prefix(kind);
        let end = store::prefix_end(&start);
        let request = RangeRequest {
            start,
            end,
            revision: None,
            limit: 1,
        };
        // Some kinds are served in several versions, all of them the same objects.
        let is_known = counts
            .iter()
            .any(|(group, plural, _)| (*group, *plural) == (kind.group, kind.plural));
        if is_known {
            continue;
        }
        match server.store.range(request).await {
            Ok(response) => counts.push((kind.group, kind.plural, response.count)),
            Err(error) => tracing::debug!(error = crate::status::chain(&error), "objects cannot be counted"),
        }
    }
    counts
}

fn write_objects(out: &mut String, counts: &[(&str, &str, usize)]) -> std::fmt::Result {
    let name = "apiserver_storage_objects";
    head(out, name, "gauge", "Stored objects by resource.")?;
    for (group, plural, count) in counts {
        let resource = if group.is_empty() {
            (*plural).to_owned()
        } else {
            format!("{plural}.{group}")
        };
        writeln!(out, "{name}{{resource=\"{resource}\"}} {count}")?;
    }
    let name = "apiserver_resource_objects";
    head(out, name, "gauge", "Stored objects by group and resource.")?;
    for (group, plural, count) in counts {
        writeln!(out, "{name}{{group=\"{group}\",resource=\"{plural}\"}} {count}")?;
    }
    Ok(())
}

fn write_build(out: &mut String, git_version: &str) -> std::fmt::Result {
    let name = "kubernetes_build_info";
    head(out, name, "gauge", "What this server is.")?;
    let mut parts = git_version.trim_start_matches('v').split('.');
    let (major, minor) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
    writeln!(
        out,
        "{name}{{git_version=\"{git_version}\",major=\"{major}\",minor=\"{minor}\"}} 1"
    )
}

/// What the system knows of this process; nothing where there is no `/proc`.
fn write_process(out: &mut String) -> std::fmt::Result {
    /// As Linux has them on all machines that this server runs on.
    const TICKS_PER_S: f64 = 100.0;
    const PAGE_BYTES: u64 = 4096;
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name of the program may contain anything, so counting begins behind it.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok());
    let booted = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let booted = booted
        .lines()
        .find_map(|line| line.strip_prefix("btime ")?.parse::<f64>().ok());
    let resident = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let resident = resident
        .split_whitespace()
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok());
    if let (Some(user), Some(system)) = (ticks(11), ticks(12)) {
        let name = "process_cpu_seconds_total";
        head(out, name, "counter", "Processor time spent.")?;
        writeln!(out, "{name} {}", (user + system) / TICKS_PER_S)?;
    }
    if let (Some(booted), Some(started)) = (booted, ticks(19)) {
        let name = "process_start_time_seconds";
        head(out, name, "gauge", "When the process began, in seconds since 1970.")?;
        writeln!(out, "{name} {}", booted + started / TICKS_PER_S)?;
    }
    if let Some(pages) = resident {
        let name = "process_resident_memory_bytes";
        head(out, name, "gauge", "Memory in use.")?;
        writeln!(out, "{name} {}", pages * PAGE_BYTES)?;
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        let name = "process_open_fds";
        head(out, name, "gauge", "Open files and connections.")?;
        writeln!(out, "{name} {}", open.count())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_verb_resource_and_code() {
        let metrics = Metrics::default();
        let labels = Labels {
            verb: "GET",
            group: "apps",
            version: "v1",
            resource: "statefulsets",
            subresource: "",
            scope: "resource",
            dry_run: false,
        };
        metrics.answered(labels, 200, Some(Duration::from_millis(30)));
        metrics.answered(labels, 200, Some(Duration::from_millis(300)));
        let mut text = String::new();
        metrics.write(&mut text).unwrap();
        let labels = "component=\"apiserver\",group=\"apps\",resource=\"statefulsets\",scope=\"resource\",\
                      subresource=\"\",verb=\"GET\",version=\"v1\",dry_run=\"\"";
        for line in [
            format!("apiserver_request_total{{code=\"200\",{labels}}} 2"),
            format!("apiserver_request_duration_seconds_bucket{{{labels},le=\"0.05\"}} 1"),
            format!("apiserver_request_duration_seconds_bucket{{{labels},le=\"+Inf\"}} 2"),
            "apiserver_current_inflight_requests{request_kind=\"mutating\"} 0".to_owned(),
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
