//! Durable group commit of embedded engines that our own log stands in for: one writer, a flush after every batch.

use crate::table::Table;
use crate::{Failure, Outcome, bare, scratch};
use std::path::Path;
use std::time::{Duration, Instant};
use trireme_store::{Store, Template, Txn};

const TIME: Duration = Duration::from_secs(4);
const KEYS: usize = 5_000;
const VALUE: usize = 1_500;

pub fn measure(table: &mut Table) -> Outcome {
    let value = vec![b'x'; VALUE];
    for batch in [1, 16, 256] {
        let dir = scratch()?;
        let ours = own(&dir.path().join("own"), batch)?;
        let what = format!("puts/s of 1.5 kB, one writer, {batch} per flush: our store");
        table.peer(&what, ours, "", "bare preallocated append", bare::alone(dir.path(), batch, &value, TIME)?);
        table.peer(&what, ours, "", "fjall 3", fjall(&dir.path().join("fjall"), batch, &value)?);
        table.peer(&what, ours, "", "redb 4", redb(&dir.path().join("redb"), batch, &value)?);
    }
    Ok(())
}

/// Calls `flush` with the keys of one batch after the other, and tells the puts per second.
fn rate(batch: usize, mut flush: impl FnMut(Vec<String>) -> Outcome) -> Result<f64, Failure> {
    let (started, mut done) = (Instant::now(), 0);
    while started.elapsed() < TIME {
        flush((done..done + batch).map(|n| format!("pods/default/{}", n * 7919 % KEYS)).collect())?;
        done += batch;
    }
    Ok(done as f64 / started.elapsed().as_secs_f64())
}

fn own(dir: &Path, batch: usize) -> Result<f64, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let store = Store::open(dir)?;
    rate(batch, |keys| {
        let writes = keys.into_iter().map(|key| {
            let mut txn = Txn::create(key, Template::plain(vec![b'x'; VALUE]));
            txn.compare.clear();
            store.commit(txn)
        });
        let done = runtime.block_on(futures::future::join_all(writes));
        Ok(done.into_iter().try_for_each(|d| d.map(drop))?)
    })
}

fn fjall(dir: &Path, batch: usize, value: &[u8]) -> Result<f64, Failure> {
    let database = fjall::Database::builder(dir).open()?;
    let keys_of = database.keyspace("keys", fjall::KeyspaceCreateOptions::default)?;
    rate(batch, |keys| {
        let mut write = database.batch();
        for key in keys {
            write.insert(&keys_of, key, value);
        }
        write.commit()?;
        Ok(database.persist(fjall::PersistMode::SyncData)?)
    })
}

fn redb(path: &Path, batch: usize, value: &[u8]) -> Result<f64, Failure> {
    const TABLE: redb::TableDefinition<'_, &str, &[u8]> = redb::TableDefinition::new("keys");
    let database = redb::Database::create(path)?;
    rate(batch, |keys| {
        let write = database.begin_write()?;
        {
            let mut table = write.open_table(TABLE)?;
            for key in &keys {
                table.insert(key.as_str(), value)?;
            }
        }
        Ok(write.commit()?)
    })
}
