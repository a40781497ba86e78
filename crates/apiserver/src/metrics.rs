//! What the server counts about itself, in the text form of Prometheus, under upstream's names.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// Upper bounds of the buckets of request durations, in seconds.
const BUCKETS_S: &[f64] = &[
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0,
];

/// Counters of the server.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    requests: Mutex<BTreeMap<(String, String, u16), u64>>,
    durations: Mutex<BTreeMap<(String, String), Histogram>>,
    watches: AtomicI64,
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

impl Metrics {
    /// Counts an answered request. `resource` is one of a bounded set.
    pub(crate) fn answered(&self, verb: &str, resource: &str, code: u16, took: Duration) {
        let key = (verb.to_owned(), resource.to_owned());
        let mut requests = self
            .requests
            .lock()
            .expect("nothing panics while it holds the counters");
        *requests.entry((key.0.clone(), key.1.clone(), code)).or_default() += 1;
        drop(requests);
        if verb != "watch" {
            let mut durations = self
                .durations
                .lock()
                .expect("nothing panics while it holds the counters");
            durations.entry(key).or_default().observe(took.as_secs_f64());
        }
    }

    pub(crate) fn watch_opened(&self) {
        self.watches.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn watch_closed(&self) {
        self.watches.fetch_sub(1, Ordering::Relaxed);
    }

    /// The text that scrapers read.
    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        self.write(&mut out).expect("a string takes all that is written to it");
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        writeln!(
            out,
            "# HELP apiserver_request_total Requests answered, by verb, resource and HTTP code."
        )?;
        writeln!(out, "# TYPE apiserver_request_total counter")?;
        for ((verb, resource, code), count) in self.requests.lock().expect("nothing panics while it holds it").iter() {
            let labels = format!(
                "verb=\"{}\",resource=\"{resource}\",code=\"{code}\"",
                verb.to_uppercase()
            );
            writeln!(out, "apiserver_request_total{{{labels}}} {count}")?;
        }
        writeln!(
            out,
            "# HELP apiserver_request_duration_seconds How long requests other than watches took."
        )?;
        writeln!(out, "# TYPE apiserver_request_duration_seconds histogram")?;
        for ((verb, resource), histogram) in self.durations.lock().expect("nothing panics while it holds it").iter() {
            let labels = format!("verb=\"{}\",resource=\"{resource}\"", verb.to_uppercase());
            let name = "apiserver_request_duration_seconds";
            for (bucket, bound) in histogram.buckets.iter().zip(BUCKETS_S) {
                writeln!(out, "{name}_bucket{{{labels},le=\"{bound}\"}} {bucket}")?;
            }
            writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {}", histogram.count)?;
            writeln!(out, "{name}_sum{{{labels}}} {}", histogram.sum_s)?;
            writeln!(out, "{name}_count{{{labels}}} {}", histogram.count)?;
        }
        writeln!(out, "# HELP apiserver_longrunning_requests Watches open now.")?;
        writeln!(out, "# TYPE apiserver_longrunning_requests gauge")?;
        writeln!(
            out,
            "apiserver_longrunning_requests{{verb=\"WATCH\"}} {}",
            self.watches.load(Ordering::Relaxed)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_verb_resource_and_code() {
        let metrics = Metrics::default();
        metrics.answered("get", "pods", 200, Duration::from_millis(30));
        metrics.answered("get", "pods", 200, Duration::from_millis(300));
        let text = metrics.text();
        assert!(text.contains("apiserver_request_total{verb=\"GET\",resource=\"pods\",code=\"200\"} 2"));
        let labels = "verb=\"GET\",resource=\"pods\"";
        assert!(text.contains(&format!(
            "apiserver_request_duration_seconds_bucket{{{labels},le=\"0.05\"}} 1"
        )));
        assert!(text.contains(&format!(
            "apiserver_request_duration_seconds_bucket{{{labels},le=\"+Inf\"}} 2"
        )));
    }
}
