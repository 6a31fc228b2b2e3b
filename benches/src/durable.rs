//! Durable creates in the store, beside the bare loop and etcd.

use crate::etcd::{self, Etcd};
use crate::table::{Better, Table};
use crate::{Failure, Outcome, bare, block_on, say, scratch};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use trireme_store::{Engine, Store, Template, Txn};

/// How long each rate is measured.
const TIME: Duration = Duration::from_secs(3);
/// How many times; the best counts, since others use the machine too.
const ROUNDS: usize = 3;
/// Concurrent clients.
pub const CLIENTS: [usize; 3] = [1, 16, 256];
/// Bytes of a value: a small pod.
const VALUE: usize = 1_500;
/// The design's budget: this part of the bare loop.
const PART: f64 = 0.7;

pub fn measure(table: &mut Table) -> Outcome {
    let value = vec![b'x'; VALUE];
    let mut etcd_is_missing = false;
    for clients in CLIENTS {
        let mut best = Rates::default();
        for _ in 0..ROUNDS {
            // In turns, so that a machine that is slow for a while is slow for all.
            let dir = scratch()?;
            best.bare = best.bare.max(bare::run(dir.path(), clients, &value, TIME)?);
            best.ours = best.ours.max(block_on(store_rate(&dir.path().join("store"), clients))?);
            best.alone = best.alone.max(bare::alone(dir.path(), clients, &value, TIME)?);
            match etcd::Server::start(&dir.path().join("etcd")) {
                Ok(server) => best.etcd = best.etcd.max(block_on(etcd_rate(&server, clients))?),
                Err(error) if !etcd_is_missing => {
                    say(&format!("no peer: {error}"));
                    etcd_is_missing = true;
                }
                Err(_) => {}
            }
        }
        let what = format!("durable creates/s, store, {clients} clients");
        if clients == 16 {
            table.budget(what.clone(), best.ours, "", best.bare * PART, Better::More);
        }
        table.peer(what.clone(), best.ours, "", "bare loop, as many clients", best.bare);
        table.peer(what.clone(), best.ours, "", &format!("bare loop, {clients} per flush, no clients"), best.alone);
        if best.etcd > 0.0 {
            table.peer(what, best.ours, "", "etcd (1 member, loopback, plaintext)", best.etcd);
        }
    }
    Ok(())
}

/// The best of the rounds.
#[derive(Default)]
struct Rates {
    bare: f64,
    ours: f64,
    alone: f64,
    etcd: f64,
}

async fn store_rate(dir: &Path, clients: usize) -> Result<f64, Failure> {
    let store = Store::open(dir)?;
    rate(clients, move |key| {
        let store = store.clone();
        async move { store.commit(Txn::create(key, Template::plain(vec![b'x'; VALUE]))).await.map(drop) }
    })
    .await
}

async fn etcd_rate(server: &etcd::Server, clients: usize) -> Result<f64, Failure> {
    let etcd = Arc::new(Etcd::connect(server.url(), "/bench/").await?);
    rate(clients, move |key| {
        let etcd = etcd.clone();
        async move { etcd.commit(Txn::create(key, Template::plain(vec![b'x'; VALUE]))).await.map(drop) }
    })
    .await
}

/// Calls per second by clients that each wait for their answer; every call gets a key of its own.
pub async fn rate<F, E>(clients: usize, call: impl Fn(String) -> F + Clone + Send + 'static) -> Result<f64, Failure>
where
    F: Future<Output = Result<(), E>> + Send,
    E: Into<Failure> + Send + 'static,
{
    let started = Instant::now();
    let tasks: Vec<_> = (0..clients)
        .map(|client| {
            let call = call.clone();
            tokio::spawn(async move {
                let mut done = 0_u64;
                while started.elapsed() < TIME {
                    call(format!("pods/default/c{clients}-{client}-{done}")).await?;
                    done += 1;
                }
                Ok::<u64, E>(done)
            })
        })
        .collect();
    let mut total = 0;
    for task in tasks {
        total += task.await?.map_err(Into::into)?;
    }
    Ok(total as f64 / started.elapsed().as_secs_f64())
}
