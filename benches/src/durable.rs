//! Durable creates in the store, beside the bare loop and etcd.

use crate::etcd::{self, Etcd};
use crate::table::{Better, Table};
use crate::{Failure, Outcome, bare, block_on, say, scratch};
use std::sync::Arc;
use std::time::{Duration, Instant};
use trireme_store::{Engine, Store, Template, Txn};

/// How long each rate is measured.
const TIME: Duration = Duration::from_secs(5);
/// Concurrent clients.
pub const CLIENTS: [usize; 3] = [1, 16, 256];
/// Bytes of a value: a small pod.
const VALUE: usize = 1_500;
/// The design's budget: this part of the bare loop.
const PART: f64 = 0.7;

pub fn measure(table: &mut Table) -> Outcome {
    let value = vec![b'x'; VALUE];
    for clients in CLIENTS {
        // In turns, so that a disk that slows down slows all.
        let dir = scratch()?;
        let bare = bare::run(dir.path(), clients, &value, TIME)?;
        let ours = block_on(async {
            let store = Store::open(&dir.path().join("store"))?;
            rate(clients, move |key| {
                let store = store.clone();
                async move { store.commit(Txn::create(key, Template::plain(vec![b'x'; VALUE]))).await.map(drop) }
            })
            .await
        })?;
        let alone = bare::alone(dir.path(), clients, &value, TIME)?;
        let what = format!("durable creates/s, store, {clients} clients");
        if clients == 16 {
            table.budget(what.clone(), ours, "", bare * PART, Better::More);
        }
        table.peer(what.clone(), ours, "", "bare loop, as many clients", bare);
        table.peer(what.clone(), ours, "", &format!("bare loop, {clients} per flush, no clients"), alone);
        match etcd::Server::start(&dir.path().join("etcd")) {
            Ok(server) => {
                let theirs = block_on(etcd_rate(&server, clients))?;
                table.peer(what, ours, "", "etcd (1 member, loopback, plaintext)", theirs);
            }
            Err(missing) => say(&format!("no peer: {missing}")),
        }
    }
    Ok(())
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
