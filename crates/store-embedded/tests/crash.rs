//! Nothing acknowledged is lost: not when the process is killed, and not when the disk forgets what was not synced.

use bytes::Bytes;
use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use store::{Error, Op, RangeRequest, Store, Txn};
use store_embedded::EmbeddedStore;

const DIR: &str = "STEADFAST_TEST_CRASH_DIR";
const WRITERS: usize = 8;

type Model = BTreeMap<String, String>;

/// The transactions that a writer makes, one after the other: it adds keys and removes older ones.
fn step(writer: usize, number: usize) -> Vec<Op> {
    let value = format!("{number}").repeat(1 + number % 700);
    let mut ops = vec![Op::Put {
        key: format!("/{writer}/{number}"),
        value: Bytes::from(value),
        lease: None,
    }];
    if number.is_multiple_of(3) {
        ops = vec![Op::Delete {
            key: format!("/{writer}/{}", number.saturating_sub(4)),
        }];
    }
    if number.is_multiple_of(5) {
        let value = Bytes::from(number.to_string());
        ops.push(Op::Put {
            key: format!("/{writer}/latest"),
            value,
            lease: None,
        });
    }
    ops
}

/// What a writer's keys are after its first `steps` transactions.
fn model(writer: usize, steps: usize) -> Model {
    let mut model = Model::new();
    for op in (0..steps).flat_map(|number| step(writer, number)) {
        match op {
            Op::Put { key, value, .. } => drop(model.insert(key, String::from_utf8_lossy(&value).into_owned())),
            Op::Delete { key } => drop(model.remove(&key)),
        }
    }
    model
}

async fn found(store: &EmbeddedStore, writer: usize) -> Model {
    let request = RangeRequest {
        start: format!("/{writer}/"),
        end: Some(format!("/{writer}0")),
        revision: None,
        limit: 0,
    };
    let found = store.range(request).await.expect("the present can be read");
    found
        .kvs
        .into_iter()
        .map(|kv| (kv.key.to_string(), String::from_utf8_lossy(&kv.value).into_owned()))
        .collect()
}

/// The writer's keys show all acknowledged transactions, and perhaps the one that was under way.
async fn check(store: &EmbeddedStore, writer: usize, acknowledged: usize, context: &str) {
    let found = found(store, writer).await;
    let right = found == model(writer, acknowledged) || found == model(writer, acknowledged + 1);
    assert!(
        right,
        "{context}: writer {writer} lost something after {acknowledged} transactions: {found:?}"
    );
}

async fn write_until_failure(store: &EmbeddedStore, writer: usize, mut acknowledged: impl FnMut(usize)) {
    for number in 0.. {
        let txn = Txn {
            compare: Vec::new(),
            ops: step(writer, number),
        };
        if store.txn(txn).await.is_err() {
            return;
        }
        acknowledged(number + 1);
    }
}

/// Not a test of its own: what the killed process runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_writes() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let store = Arc::new(EmbeddedStore::open(Path::new(&dir)).unwrap());
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let store = store.clone();
        writers.spawn(async move {
            write_until_failure(&store, writer, |steps| {
                let mut out = io::stdout().lock();
                writeln!(out, "ack {writer} {steps}").expect("the parent listens");
                out.flush().expect("the parent listens");
            })
            .await;
        });
    }
    while writers.join_next().await.is_some() {}
}

#[tokio::test]
async fn acknowledged_writes_survive_kill() {
    for lines in [1, 40, 300, 1000, 2500] {
        let dir = tempfile::tempdir().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_writes", "--nocapture"])
            .env(DIR, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut acknowledged = [0; WRITERS];
        let mut heard = 0;
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            let Some((_, numbers)) = line.split_once("ack ") else {
                continue;
            };
            let Some((writer, steps)) = numbers.split_once(' ') else {
                continue;
            };
            acknowledged[writer.parse::<usize>().unwrap()] = steps.parse().unwrap();
            heard += 1;
            if heard == lines {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        let store = EmbeddedStore::open(dir.path()).unwrap();
        for (writer, steps) in acknowledged.into_iter().enumerate() {
            check(&store, writer, steps, &format!("killed after {lines}")).await;
        }
    }
}

/// Something that a disk was asked to do.
#[derive(Clone, Debug)]
enum Request {
    SetLength(usize),
    Write(usize, Vec<u8>),
}

impl Request {
    fn apply(&self, image: &mut Vec<u8>) {
        match self {
            Self::SetLength(length) => image.resize(*length, 0),
            Self::Write(offset, data) => {
                let end = offset + data.len();
                if image.len() < end {
                    image.resize(end, 0);
                }
                image[*offset..end].copy_from_slice(data);
            }
        }
    }
}

#[derive(Debug, Default)]
struct Disk {
    /// What a reader sees.
    cached: Vec<u8>,
    /// What survives for certain.
    synced: Vec<u8>,
    /// What may survive, whole or in part.
    unsynced: Vec<Request>,
    /// Requests until the power fails.
    requests_left: usize,
}

/// A disk that loses power at a chosen request.
#[derive(Clone, Debug)]
struct FailingDisk(Arc<Mutex<Disk>>);

impl FailingDisk {
    fn new(image: Vec<u8>, requests_left: usize) -> Self {
        Self(Arc::new(Mutex::new(Disk {
            cached: image.clone(),
            synced: image,
            unsynced: Vec::new(),
            requests_left,
        })))
    }

    fn request(&self, act: impl FnOnce(&mut Disk)) -> io::Result<()> {
        let mut disk = self.0.lock().expect("no test panics inside");
        if disk.requests_left == 0 {
            return Err(io::Error::other("power failed"));
        }
        disk.requests_left -= 1;
        act(&mut disk);
        Ok(())
    }

    fn change(&self, request: Request) -> io::Result<()> {
        self.request(|disk| {
            request.apply(&mut disk.cached);
            disk.unsynced.push(request);
        })
    }

    /// What is on the disk when the power is back: of the unsynced sectors, any may be there.
    fn after_power_failure(&self, dice: &mut Dice) -> Vec<u8> {
        const SECTOR_BYTES: usize = 512;
        let disk = self.0.lock().expect("no test panics inside");
        let mut image = disk.synced.clone();
        for request in &disk.unsynced {
            match request {
                Request::SetLength(_) if dice.roll(2) == 0 => request.apply(&mut image),
                Request::SetLength(_) => {}
                Request::Write(offset, data) => {
                    for (number, sector) in data.chunks(SECTOR_BYTES).enumerate() {
                        if dice.roll(2) == 0 {
                            Request::Write(offset + number * SECTOR_BYTES, sector.to_vec()).apply(&mut image);
                        }
                    }
                }
            }
        }
        image
    }
}

impl redb::StorageBackend for FailingDisk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().expect("no test panics inside").cached.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let disk = self.0.lock().expect("no test panics inside");
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let found = disk.cached.get(start..start + out.len());
        out.copy_from_slice(found.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.change(Request::SetLength(usize::try_from(length).map_err(io::Error::other)?))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.request(|disk| {
            disk.synced = disk.cached.clone();
            disk.unsynced.clear();
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.change(Request::Write(
            usize::try_from(offset).map_err(io::Error::other)?,
            data.to_vec(),
        ))
    }
}

/// A small generator, so that a failure can be repeated.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        // Knuth's MMIX constants.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % sides
    }
}

#[tokio::test]
async fn acknowledged_writes_survive_power_failure() {
    let fresh = FailingDisk::new(Vec::new(), usize::MAX);
    drop(EmbeddedStore::open_backend(fresh.clone()).unwrap());
    let fresh = fresh.0.lock().unwrap().synced.clone();
    for seed in 0..150 {
        let mut dice = Dice(seed);
        let disk = FailingDisk::new(fresh.clone(), 1 + dice.roll(600));
        let mut acknowledged = 0;
        match EmbeddedStore::open_backend(disk.clone()) {
            Ok(store) => {
                write_until_failure(&store, 0, |steps| acknowledged = steps).await;
                let txn = Txn {
                    compare: Vec::new(),
                    ops: step(0, 0),
                };
                assert!(
                    matches!(store.txn(txn).await, Err(Error::Storage(_))),
                    "it takes no more writes"
                );
            }
            Err(error) => assert!(matches!(error, Error::Storage(_))),
        }
        let disk = FailingDisk::new(disk.after_power_failure(&mut dice), usize::MAX);
        let context = format!("seed {seed}");
        let store = EmbeddedStore::open_backend(disk).expect(&context);
        check(&store, 0, acknowledged, &context).await;
    }
}
