//! What a node and its containers used at two moments, and what they use therefore.

use super::prometheus::samples;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Nobody measures over a longer time than this; a kubelet that says so has a wrong clock.
const WINDOW_MS_MAX: i64 = 10 * 60 * 1000;

/// CPU time and memory at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Point {
    cpu_s: f64,
    memory_bytes: f64,
    at_ms: i64,
}

/// Namespace, pod and container.
type ContainerKey = (String, String, String);

/// What a kubelet told at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Measured {
    node: Option<Point>,
    containers: BTreeMap<ContainerKey, Point>,
}

/// What is used, by two moments.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Use {
    cpu_nanos_per_s: f64,
    memory_bytes: f64,
    /// The later moment.
    pub(super) at_ms: i64,
    /// The time between the two.
    pub(super) window_ms: i64,
}

/// CPU time and memory, when only one may be known.
#[derive(Default)]
struct Halves {
    cpu: Option<(f64, Option<i64>)>,
    memory_bytes: Option<f64>,
}

impl Halves {
    fn whole(&self, now_ms: i64) -> Option<Point> {
        let (cpu_s, at_ms) = self.cpu?;
        let memory_bytes = self.memory_bytes?;
        // The text is a kubelet's: it may say NaN.
        let is_amount = |value: f64| value.is_finite() && value >= 0.0;
        (is_amount(cpu_s) && is_amount(memory_bytes)).then(|| Point {
            cpu_s,
            memory_bytes,
            at_ms: at_ms.unwrap_or(now_ms),
        })
    }
}

impl Measured {
    /// Reads what a kubelet serves at `/metrics/resource`.
    pub(super) fn read(text: &str, now_ms: i64) -> Self {
        let mut node = Halves::default();
        let mut containers: BTreeMap<ContainerKey, Halves> = BTreeMap::new();
        for sample in samples(text) {
            let label = |name: &str| sample.labels.get(name).cloned().unwrap_or_default();
            let halves = match sample.name {
                "node_cpu_usage_seconds_total" | "node_memory_working_set_bytes" => &mut node,
                "container_cpu_usage_seconds_total" | "container_memory_working_set_bytes" => {
                    let key = (label("namespace"), label("pod"), label("container"));
                    containers.entry(key).or_default()
                }
                _ => continue,
            };
            if sample.name.ends_with("_cpu_usage_seconds_total") {
                halves.cpu = Some((sample.value, sample.at_ms));
            } else {
                halves.memory_bytes = Some(sample.value);
            }
        }
        let whole = |(key, halves): (ContainerKey, Halves)| Some((key, halves.whole(now_ms)?));
        Self {
            node: node.whole(now_ms),
            containers: containers.into_iter().filter_map(whole).collect(),
        }
    }

    /// What the node uses, by this moment and an earlier one.
    pub(super) fn node_since(&self, earlier: &Self) -> Option<Use> {
        since(earlier.node?, self.node?)
    }

    /// What each container of a pod uses: by name.
    pub(super) fn pod_since(&self, earlier: &Self, namespace: &str, pod: &str) -> Vec<(&str, Use)> {
        let of_pod = self
            .containers
            .iter()
            .filter(|((its_namespace, its_pod, _), _)| its_namespace == namespace && its_pod == pod);
        let used = |(key, point): (&'_ ContainerKey, &Point)| since(*earlier.containers.get(key)?, *point);
        of_pod
            .filter_map(|entry| Some((entry.0.2.as_str(), used(entry)?)))
            .collect()
    }
}

/// `None` if the clock stood still or jumped, or the count began anew.
fn since(earlier: Point, later: Point) -> Option<Use> {
    // The times are the kubelet's, so their difference may be none.
    let window_ms = later.at_ms.checked_sub(earlier.at_ms)?;
    if !(1..=WINDOW_MS_MAX).contains(&window_ms) || later.cpu_s < earlier.cpu_s {
        return None;
    }
    #[expect(clippy::cast_precision_loss, reason = "windows are of minutes")]
    let window_s = window_ms as f64 / 1e3;
    Some(Use {
        cpu_nanos_per_s: (later.cpu_s - earlier.cpu_s) * 1e9 / window_s,
        memory_bytes: later.memory_bytes,
        at_ms: later.at_ms,
        window_ms,
    })
}

impl Use {
    /// `usage` as the API has it.
    pub(super) fn quantities(&self) -> Value {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "neither is negative, and a billionth of a processor does not matter"
        )]
        let (cpu, memory) = (self.cpu_nanos_per_s.ceil() as u64, self.memory_bytes as u64);
        let cpu = if cpu == 0 { "0".to_owned() } else { format!("{cpu}n") };
        json!({"cpu": cpu, "memory": binary(memory)})
    }

    /// The time between the two moments, as Go writes durations of seconds.
    pub(super) fn window(&self) -> String {
        #[expect(clippy::cast_precision_loss, reason = "windows are of minutes")]
        let seconds = self.window_ms as f64 / 1e3;
        let minutes = self.window_ms / 60_000;
        if minutes == 0 {
            format!("{seconds}s")
        } else {
            #[expect(clippy::cast_precision_loss, reason = "windows are of minutes")]
            let rest = (self.window_ms % 60_000) as f64 / 1e3;
            format!("{minutes}m{rest}s")
        }
    }
}

/// A number of bytes with the largest binary suffix that keeps it whole.
fn binary(bytes: u64) -> String {
    const SUFFIXES: [&str; 5] = ["", "Ki", "Mi", "Gi", "Ti"];
    let (mut value, mut step) = (bytes, 0);
    while value > 0 && value.is_multiple_of(1024) && step + 1 < SUFFIXES.len() {
        value /= 1024;
        step += 1;
    }
    format!("{value}{}", SUFFIXES[step])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(cpu_s: f64, memory_bytes: u64, at_ms: i64) -> Measured {
        let labels = "{container=\"c\",namespace=\"default\",pod=\"web-0\"}";
        let text = format!(
            "node_cpu_usage_seconds_total {cpu_s} {at_ms}\nnode_memory_working_set_bytes {memory_bytes} {at_ms}\n\
             container_cpu_usage_seconds_total{labels} {cpu_s} {at_ms}\n\
             container_memory_working_set_bytes{labels} {memory_bytes} {at_ms}\n\
             container_cpu_usage_seconds_total{{container=\"d\",namespace=\"default\",pod=\"web-0\"}} 1 {at_ms}\n"
        );
        Measured::read(&text, 0)
    }

    #[test]
    fn use_is_what_changed_over_the_window() {
        let (earlier, later) = (told(10.0, 4096, 1_000), told(12.5, 3 << 20, 11_000));
        let used = later.node_since(&earlier).unwrap();
        assert_eq!(used.quantities(), json!({"cpu": "250000000n", "memory": "3Mi"}));
        assert_eq!((used.window(), used.at_ms), ("10s".to_owned(), 11_000));
        let containers = later.pod_since(&earlier, "default", "web-0");
        assert_eq!(containers, [("c", used)], "of the other one memory is not known");
        assert!(later.pod_since(&earlier, "other", "web-0").is_empty());
    }

    #[test]
    fn a_count_that_began_anew_says_nothing() {
        let (earlier, later) = (told(10.0, 4096, 1_000), told(0.5, 4096, 11_000));
        assert_eq!(later.node_since(&earlier), None);
        assert_eq!(earlier.node_since(&earlier), None);
        assert_eq!(later.node_since(&Measured::default()), None);
    }

    #[test]
    fn what_cannot_be_says_nothing() {
        let usual = told(10.0, 4096, 1_000);
        for at_ms in [i64::MIN, i64::MAX, 1_001 + WINDOW_MS_MAX] {
            assert_eq!(told(12.0, 4096, at_ms).node_since(&usual), None);
        }
        assert_eq!(usual.node_since(&told(1.0, 4096, i64::MIN)), None);
        for cpu_s in [f64::NAN, f64::INFINITY, -1.0] {
            let later = told(cpu_s, 4096, 11_000);
            assert_eq!((later.node, later.containers.len()), (None, 0), "{cpu_s}");
        }
        let text = "node_cpu_usage_seconds_total 1 1\nnode_memory_working_set_bytes NaN 1\n";
        assert_eq!(Measured::read(text, 0).node, None);
    }

    #[test]
    fn quantities_and_durations_are_gos() {
        let texts = [
            (0, "0"),
            (1023, "1023"),
            (4096, "4Ki"),
            (1 << 30, "1Gi"),
            ((1 << 20) + 1024, "1025Ki"),
        ];
        for (bytes, text) in texts {
            assert_eq!(binary(bytes), text);
        }
        let window = |window_ms| {
            let point = |at_ms| Point {
                cpu_s: 0.0,
                memory_bytes: 0.0,
                at_ms,
            };
            since(point(0), point(window_ms)).unwrap().window()
        };
        assert_eq!(
            (window(1_250), window(60_000), window(95_500)),
            ("1.25s".into(), "1m0s".into(), "1m35.5s".into())
        );
    }
}
