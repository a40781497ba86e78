//! Figures: rates, latencies, and what the measured processes used.

use anyhow::Context;
use serde_json::{Map, Value, json};
use std::time::{Duration, Instant};

/// Linux counts processor time in these units for user space.
const TICKS_PER_SECOND: f64 = 100.0;

/// How long it may take until processes are quiet.
const QUIET_LIMIT: Duration = Duration::from_secs(120);

/// How often in a row they must be found quiet …
const QUIET_LOOKS: u32 = 3;

/// … in so much time …
const QUIET_LOOK: Duration = Duration::from_millis(500);

/// … of which all of them together may use so much of a processor, in seconds.
const QUIET_SECONDS_MAX: f64 = 0.035;

/// Where figures go.
#[derive(Debug)]
pub(crate) struct Report {
    processes: Vec<(String, u32)>,
    json: bool,
}

/// A measurement that runs.
#[derive(Debug)]
pub(crate) struct Running {
    begun: Instant,
    processor: Vec<f64>,
}

/// `name=pid`.
pub(crate) fn parse_process(text: &str) -> Result<(String, u32), String> {
    let parsed = text
        .split_once('=')
        .and_then(|(name, pid)| Some((name.to_owned(), pid.parse().ok()?)));
    parsed.ok_or_else(|| format!("{text:?} must look like name=pid"))
}

impl Report {
    pub(crate) fn new(processes: Vec<(String, u32)>, json: bool) -> Self {
        Self { processes, json }
    }

    pub(crate) fn begin(&self) -> Running {
        let processor = self.processes.iter().map(|(_, pid)| processor_seconds(*pid));
        Running {
            begun: Instant::now(),
            processor: processor.map(Option::unwrap_or_default).collect(),
        }
    }

    /// Waits until the processes have nothing to do any more: what they still owe to what was before would count as the
    /// price of what comes.
    pub(crate) async fn until_quiet(&self) -> anyhow::Result<()> {
        let end = Instant::now() + QUIET_LIMIT;
        let mut quiet = 0;
        while quiet < QUIET_LOOKS {
            anyhow::ensure!(Instant::now() < end, "the measured processes never become quiet");
            let before = self.processor_seconds();
            tokio::time::sleep(QUIET_LOOK).await;
            let is_quiet = self.processor_seconds() - before < QUIET_SECONDS_MAX;
            quiet = if is_quiet { quiet + 1 } else { 0 };
        }
        Ok(())
    }

    fn processor_seconds(&self) -> f64 {
        let each = self.processes.iter().filter_map(|(_, pid)| processor_seconds(*pid));
        each.sum()
    }

    /// Tells what was measured since `running` began: `done` things with these latencies.
    pub(crate) fn end(&self, what: &str, running: &Running, done: usize, mut latencies: Vec<Duration>) {
        let took = running.begun.elapsed().as_secs_f64();
        latencies.sort_unstable();
        let at = |share: f64| {
            let place = (share * (latencies.len().saturating_sub(1)) as f64).round();
            // The place is within the list.
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "between 0 and the length"
            )]
            latencies.get(place as usize).map_or(0.0, |l| l.as_secs_f64() * 1e3)
        };
        let mut used = Map::new();
        for ((name, pid), before) in self.processes.iter().zip(&running.processor) {
            let seconds = processor_seconds(*pid).unwrap_or_default() - before;
            used.insert(name.clone(), json!((seconds * 100.0).round() / 100.0));
        }
        let (rate, p50, p99) = (done as f64 / took, at(0.5), at(0.99));
        if self.json {
            let line = json!({"what": what, "done": done, "seconds": took, "per_second": rate, "p50_ms": p50, "p99_ms": p99, "cpu_s": used});
            println!("{line}");
            return;
        }
        println!(
            "{what:<34} {rate:>10.0}/s   p50 {p50:>8.3} ms   p99 {p99:>8.3} ms   cpu s {}",
            Value::Object(used)
        );
    }

    /// Tells the resident memory of the processes.
    pub(crate) fn memory(&self, what: &str) -> anyhow::Result<()> {
        for (name, pid) in &self.processes {
            let mib = resident_mib(*pid).with_context(|| format!("{name} is gone"))?;
            if self.json {
                println!("{}", json!({"what": what, "process": name, "rss_mib": mib}));
            } else {
                println!("{what:<34} {name} {mib:.0} MiB resident");
            }
        }
        Ok(())
    }
}

fn processor_seconds(pid: u32) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold spaces; the fields after it do not.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) / TICKS_PER_SECOND)
}

fn resident_mib(pid: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kib / 1024.0)
}
