//! A disk that loses power: of what was not synced, any sector may be there or not.

use crate::{check, step, write_until_failure};
use std::io;
use std::sync::{Arc, Mutex};
use store::{Error, Store, Txn};
use store_embedded::EmbeddedStore;

/// Something that a disk was asked to do.
#[derive(Clone, Debug)]
pub(crate) enum Request {
    SetLength(usize),
    Write(usize, Vec<u8>),
}

impl Request {
    pub(crate) fn apply(&self, image: &mut Vec<u8>) {
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
pub(crate) struct FailingDisk(Arc<Mutex<Disk>>);

impl FailingDisk {
    pub(crate) fn new(image: Vec<u8>, requests_left: usize) -> Self {
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
                write_until_failure(&store, "/0/", |steps, _| acknowledged = steps).await;
                let txn = Txn {
                    compare: Vec::new(),
                    ops: step("/0/", 0),
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
        check(&store, "/0/", acknowledged, &context).await;
    }
}
