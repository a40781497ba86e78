//! The store's file as it was after each of its writes, and after half of each: what a kill at that point leaves.

use crate::disk::Request;
use crate::{check, step};
use std::io;
use std::sync::{Arc, Mutex};
use store::{Revision, Store, Txn, TxnResponse};
use store_embedded::EmbeddedStore;

const STEPS: usize = 40;

/// A file in memory that remembers what was done to it.
#[derive(Clone, Debug, Default)]
struct RecordedFile(Arc<Mutex<Recording>>);

#[derive(Debug, Default)]
struct Recording {
    image: Vec<u8>,
    requests: Vec<Request>,
}

impl RecordedFile {
    fn of(image: Vec<u8>) -> Self {
        let requests = Vec::new();
        Self(Arc::new(Mutex::new(Recording { image, requests })))
    }

    fn change(&self, request: Request) -> io::Result<()> {
        let mut recording = self.0.lock().expect("no test panics inside");
        request.apply(&mut recording.image);
        recording.requests.push(request);
        Ok(())
    }

    fn requests(&self) -> usize {
        self.0.lock().unwrap().requests.len()
    }
}

impl redb::StorageBackend for RecordedFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().expect("no test panics inside").image.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let recording = self.0.lock().expect("no test panics inside");
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let found = recording.image.get(start..start + out.len());
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.change(Request::SetLength(usize::try_from(length).map_err(io::Error::other)?))
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        self.change(Request::Write(offset, data.to_vec()))
    }
}

/// How far the store had come when it had made so many requests.
#[derive(Clone, Copy, Debug)]
struct Acknowledged {
    requests: usize,
    steps: usize,
    revision: Revision,
}

async fn record(file: &RecordedFile) -> Vec<Acknowledged> {
    let store = EmbeddedStore::open_backend(file.clone()).unwrap();
    let mut acknowledged = Vec::new();
    for number in 0..STEPS {
        let txn = Txn {
            compare: Vec::new(),
            ops: step("/0/", number),
        };
        let Ok(TxnResponse::Committed { revision }) = store.txn(txn).await else {
            panic!("the file takes everything")
        };
        acknowledged.push(Acknowledged {
            requests: file.requests(),
            steps: number + 1,
            revision,
        });
    }
    acknowledged
}

/// Half of a write; a change of length is done or not.
fn torn(request: &Request) -> Option<Request> {
    match request {
        Request::Write(offset, data) if data.len() > 1 => {
            Some(Request::Write(*offset, data[..data.len() / 2].to_vec()))
        }
        _ => None,
    }
}

#[tokio::test]
async fn the_file_is_right_after_each_write() {
    let made = RecordedFile::default();
    drop(EmbeddedStore::open_backend(made.clone()).unwrap());
    let fresh = made.0.lock().unwrap().image.clone();
    let file = RecordedFile::of(fresh.clone());
    let acknowledged = record(&file).await;
    let requests = std::mem::take(&mut file.0.lock().unwrap().requests);
    let (mut image, mut before) = (fresh, 0);
    for (done, request) in requests.iter().enumerate() {
        let last = acknowledged
            .iter()
            .rev()
            .find(|acknowledged| acknowledged.requests <= done);
        let (steps, revision) = last.map_or((0, 1), |last| (last.steps, last.revision));
        let mut images = vec![image.clone()];
        if let Some(half) = torn(request) {
            let mut cut = image.clone();
            half.apply(&mut cut);
            images.push(cut);
        }
        for (half, image) in images.into_iter().enumerate() {
            let context = format!("after {done} writes and {half} half of the next");
            let store = EmbeddedStore::open_backend(RecordedFile::of(image)).expect(&context);
            check(&store, "/0/", steps, &context).await;
            let found = store.revision().await.unwrap();
            assert!(found >= revision, "{context}: revision {found} after {revision}");
            if half == 0 {
                assert!(found >= before, "{context}: revision {found} after {before}");
                before = found;
            }
        }
        request.apply(&mut image);
    }
    println!("{} writes cut", requests.len());
}
