//! What the work queue does, controller by controller, under upstream's names and in Prometheus' text format.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Upper bounds of the buckets: as upstream writes them, and in nanoseconds.
const BUCKETS: [(&str, u128); 10] = [
    ("1e-08", 10),
    ("1e-07", 100),
    ("1e-06", 1_000),
    ("9.999999999999999e-06", 10_000),
    ("9.999999999999999e-05", 100_000),
    ("0.001", 1_000_000),
    ("0.01", 10_000_000),
    ("0.1", 100_000_000),
    ("1", 1_000_000_000),
    ("10", 10_000_000_000),
];

/// The metrics of all controllers of a process; clones are the same metrics.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    controllers: Arc<Mutex<BTreeMap<&'static str, Arc<OfController>>>>,
}

/// The metrics of one controller.
#[derive(Debug, Default)]
pub(crate) struct OfController {
    depth: AtomicI64,
    adds: AtomicU64,
    retries: AtomicU64,
    waited: Histogram,
    worked: Histogram,
}

/// Name, type, help and value of a metric.
type Number = (&'static str, &'static str, &'static str, fn(&OfController) -> i64);

/// Name, help and value of a histogram.
type Distribution = (&'static str, &'static str, fn(&OfController) -> &Histogram);

#[derive(Debug, Default)]
struct Histogram {
    buckets: [AtomicU64; BUCKETS.len()],
    count: AtomicU64,
    sum_ns: AtomicU64,
}

impl OfController {
    /// A key was added.
    pub(crate) fn added(&self) {
        self.adds.fetch_add(1, Ordering::Relaxed);
        self.depth.fetch_add(1, Ordering::Relaxed);
    }

    /// A key's turn has come.
    pub(crate) fn started(&self, waited: Duration) {
        self.depth.fetch_add(-1, Ordering::Relaxed);
        self.waited.observe(waited);
    }

    /// A key's turn is over.
    pub(crate) fn done(&self, worked: Duration) {
        self.worked.observe(worked);
    }

    /// A key has to be looked at again after a failure.
    pub(crate) fn retried(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }
}

impl Histogram {
    fn observe(&self, took: Duration) {
        let nanoseconds = took.as_nanos();
        if let Some(at) = BUCKETS.iter().position(|(_, bound)| nanoseconds <= *bound) {
            self.buckets[at].fetch_add(1, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        self.sum_ns
            .fetch_add(u64::try_from(nanoseconds).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn write(&self, text: &mut String, metric: &str, name: &str) -> std::fmt::Result {
        let mut below = 0;
        for ((bound, _), count) in BUCKETS.iter().zip(&self.buckets) {
            below += count.load(Ordering::Relaxed);
            writeln!(text, "{metric}_bucket{{name=\"{name}\",le=\"{bound}\"}} {below}")?;
        }
        let count = self.count.load(Ordering::Relaxed);
        let sum = Duration::from_nanos(self.sum_ns.load(Ordering::Relaxed)).as_secs_f64();
        writeln!(text, "{metric}_bucket{{name=\"{name}\",le=\"+Inf\"}} {count}")?;
        writeln!(text, "{metric}_sum{{name=\"{name}\"}} {sum}")?;
        writeln!(text, "{metric}_count{{name=\"{name}\"}} {count}")
    }
}

impl Metrics {
    /// The metrics of a controller. What waited when an earlier run of it ended waits no more.
    pub(crate) fn of(&self, name: &'static str) -> Arc<OfController> {
        let mut controllers = self.controllers.lock().expect("no panic while held");
        let metrics = controllers.entry(name).or_default();
        metrics.depth.store(0, Ordering::Relaxed);
        metrics.clone()
    }

    /// All of them, as text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        self.write(&mut text).expect("a String takes everything");
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        let controllers = self.controllers.lock().expect("no panic while held").clone();
        let numbers: [Number; 3] = [
            ("workqueue_depth", "gauge", "Current depth of workqueue", |of| {
                of.depth.load(Ordering::Relaxed)
            }),
            (
                "workqueue_adds_total",
                "counter",
                "Total number of adds handled by workqueue",
                |of| i64::try_from(of.adds.load(Ordering::Relaxed)).unwrap_or(i64::MAX),
            ),
            (
                "workqueue_retries_total",
                "counter",
                "Total number of retries handled by workqueue",
                |of| i64::try_from(of.retries.load(Ordering::Relaxed)).unwrap_or(i64::MAX),
            ),
        ];
        for (metric, kind, help, value) in numbers {
            writeln!(text, "# HELP {metric} {help}\n# TYPE {metric} {kind}")?;
            for (name, of) in &controllers {
                writeln!(text, "{metric}{{name=\"{name}\"}} {}", value(of))?;
            }
        }
        let histograms: [Distribution; 2] = [
            (
                "workqueue_queue_duration_seconds",
                "How long in seconds an item stays in workqueue before being requested.",
                |of| &of.waited,
            ),
            (
                "workqueue_work_duration_seconds",
                "How long in seconds processing an item from workqueue takes.",
                |of| &of.worked,
            ),
        ];
        for (metric, help, histogram) in histograms {
            writeln!(text, "# HELP {metric} {help}\n# TYPE {metric} histogram")?;
            for (name, of) in &controllers {
                histogram(of).write(text, metric, name)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_prometheus_own() {
        let metrics = Metrics::default();
        let of = metrics.of("job-controller");
        of.added();
        of.added();
        of.started(Duration::from_millis(5));
        of.done(Duration::from_secs(20));
        of.retried();
        let text = metrics.text();
        for line in [
            "# TYPE workqueue_depth gauge",
            "workqueue_depth{name=\"job-controller\"} 1",
            "workqueue_adds_total{name=\"job-controller\"} 2",
            "workqueue_retries_total{name=\"job-controller\"} 1",
            "workqueue_queue_duration_seconds_bucket{name=\"job-controller\",le=\"0.001\"} 0",
            "workqueue_queue_duration_seconds_bucket{name=\"job-controller\",le=\"0.01\"} 1",
            "workqueue_work_duration_seconds_bucket{name=\"job-controller\",le=\"10\"} 0",
            "workqueue_work_duration_seconds_bucket{name=\"job-controller\",le=\"+Inf\"} 1",
            "workqueue_work_duration_seconds_sum{name=\"job-controller\"} 20",
        ] {
            assert!(text.lines().any(|known| known == line), "{line}\n{text}");
        }
    }
}
