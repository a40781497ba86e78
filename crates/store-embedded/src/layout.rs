//! How the present lies in the redb file.
//!
//! - `keys`: key → create revision, mod revision, version, lease (four little-endian u64) and then the value.
//! - `leases`: lease id → time to live in milliseconds.
//! - `meta`: `layout`, `revision`, `last_lease`.
//!
//! A commit rewrites each page it touches, so few pages are touched: `revision` is only written when the last change
//! was a deletion, for else the newest key tells it.

use crate::{OpenError, storage};
use bytes::Bytes;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use std::time::Duration;
use store::index::Loaded;
use store::{Error, Event, KeyValue, Stage};

const KEYS: TableDefinition<&str, &[u8]> = TableDefinition::new("keys");
const LEASES: TableDefinition<u64, u64> = TableDefinition::new("leases");
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");

const LAYOUT: &str = "layout";
const REVISION: &str = "revision";
const LAST_LEASE: &str = "last_lease";

/// The layout described above.
const KNOWN_LAYOUT: u64 = 1;

const HEADER_BYTES: usize = 32;

/// A row that is too short to be one.
#[derive(Debug, thiserror::Error)]
#[error("the row of key {0:?} is damaged")]
struct DamagedRow(String);

/// Reads everything; makes the tables if the file is new.
pub(crate) fn load(database: &Database) -> Result<Loaded, Error> {
    let fresh = match read(database) {
        Ok(Some(loaded)) => return Ok(loaded),
        Ok(None) => database,
        Err(error) => return Err(error),
    };
    create(fresh, &Loaded::default()).map_err(storage)?;
    Ok(Loaded::default())
}

/// Makes the tables, with these contents.
pub(crate) fn create(database: &Database, contents: &Loaded) -> Result<(), redb::Error> {
    let txn = database.begin_write()?;
    {
        let mut keys = txn.open_table(KEYS)?;
        for kv in &contents.keys {
            let mut row = keys.insert_reserve(&*kv.key, HEADER_BYTES + kv.value.len())?;
            encode(kv, row.as_mut());
        }
        let mut leases = txn.open_table(LEASES)?;
        for (id, ttl) in &contents.leases {
            leases.insert(id, u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX))?;
        }
        let mut meta = txn.open_table(META)?;
        meta.insert(LAYOUT, KNOWN_LAYOUT)?;
        if contents.revision > 0 {
            meta.insert(REVISION, contents.revision)?;
            meta.insert(LAST_LEASE, contents.last_lease)?;
        }
    }
    txn.commit()?;
    Ok(())
}

/// `None` if the file has no tables yet.
fn read(database: &Database) -> Result<Option<Loaded>, Error> {
    let failed = |error: redb::Error| storage(error);
    let txn = database.begin_read().map_err(|error| failed(error.into()))?;
    let meta = match txn.open_table(META) {
        Ok(meta) => meta,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
        Err(error) => return Err(failed(error.into())),
    };
    let number = |name| meta.get(name).map(|found| found.map(|guard| guard.value()));
    let number = |name| number(name).map_err(|error| failed(error.into()));
    let found = number(LAYOUT)?.unwrap_or(0);
    if found != KNOWN_LAYOUT {
        return Err(storage(OpenError::Layout {
            found,
            known: KNOWN_LAYOUT,
        }));
    }
    let mut loaded = Loaded {
        revision: number(REVISION)?.unwrap_or(0),
        last_lease: number(LAST_LEASE)?.unwrap_or(0),
        ..Loaded::default()
    };
    read_keys(&txn, &mut loaded)?;
    read_leases(&txn, &mut loaded).map_err(failed)?;
    Ok(Some(loaded))
}

fn read_keys(txn: &redb::ReadTransaction, loaded: &mut Loaded) -> Result<(), Error> {
    let failed = |error: redb::Error| storage(error);
    let table = txn.open_table(KEYS).map_err(|error| failed(error.into()))?;
    for row in table.iter().map_err(|error| failed(error.into()))? {
        let (key, value) = row.map_err(|error| failed(error.into()))?;
        let kv = decode(key.value(), value.value()).ok_or_else(|| storage(DamagedRow(key.value().to_owned())))?;
        loaded.revision = loaded.revision.max(kv.mod_revision);
        loaded.keys.push(kv);
    }
    Ok(())
}

fn read_leases(txn: &redb::ReadTransaction, loaded: &mut Loaded) -> Result<(), redb::Error> {
    for row in txn.open_table(LEASES)?.iter()? {
        let (id, ttl) = row?;
        loaded.leases.push((id.value(), Duration::from_millis(ttl.value())));
    }
    Ok(())
}

/// Makes a group of changes durable, with one sync.
pub(crate) fn write(database: &Database, stage: &Stage) -> Result<(), redb::Error> {
    // redb's default durability is a sync before `commit` returns.
    let txn = database.begin_write()?;
    if !stage.events().is_empty() {
        write_keys(&txn, stage)?;
    }
    let mut leases = stage.leases().peekable();
    if leases.peek().is_some() {
        let mut table = txn.open_table(LEASES)?;
        for (id, ttl) in leases {
            match ttl {
                Some(ttl) => table.insert(id, u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX))?,
                None => table.remove(id)?,
            };
        }
        txn.open_table(META)?.insert(LAST_LEASE, stage.last_lease())?;
    }
    if stage
        .events()
        .last()
        .is_some_and(|event| !leaves_revision(stage, event))
    {
        txn.open_table(META)?.insert(REVISION, stage.revision())?;
    }
    txn.commit()?;
    Ok(())
}

fn write_keys(txn: &redb::WriteTransaction, stage: &Stage) -> Result<(), redb::Error> {
    let mut table = txn.open_table(KEYS)?;
    // Neighbours share pages.
    let mut outcome: Vec<_> = stage.outcome().collect();
    outcome.sort_unstable_by_key(|(key, _)| *key);
    for (key, kv) in outcome {
        match kv {
            Some(kv) => {
                let mut row = table.insert_reserve(key, HEADER_BYTES + kv.value.len())?;
                encode(kv, row.as_mut());
            }
            None => drop(table.remove(key)?),
        }
    }
    Ok(())
}

/// The row that the last change writes tells the group's revision.
fn leaves_revision(stage: &Stage, last: &Event) -> bool {
    matches!(last, Event::Put { kv, .. } if kv.mod_revision == stage.revision())
}

fn encode(kv: &KeyValue, row: &mut [u8]) {
    let numbers = [kv.create_revision, kv.mod_revision, kv.version, kv.lease.unwrap_or(0)];
    for (place, number) in row.chunks_exact_mut(8).zip(numbers) {
        place.copy_from_slice(&number.to_le_bytes());
    }
    row[HEADER_BYTES..].copy_from_slice(&kv.value);
}

fn decode(key: &str, row: &[u8]) -> Option<KeyValue> {
    let (header, value) = row.split_at_checked(HEADER_BYTES)?;
    let mut numbers = header.chunks_exact(8).map(|place| {
        let place: [u8; 8] = place.try_into().expect("chunks have this size");
        u64::from_le_bytes(place)
    });
    Some(KeyValue {
        key: key.into(),
        value: Bytes::copy_from_slice(value),
        create_revision: numbers.next()?,
        mod_revision: numbers.next()?,
        version: numbers.next()?,
        lease: numbers.next().filter(|lease| *lease != 0),
    })
}
