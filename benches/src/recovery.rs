//! Back after kill -9 with many objects, and a log that is overwritten for ever.

use crate::cluster::Cluster;
use crate::lists::pod;
use crate::table::{Better, Table, millis};
use crate::{Outcome, block_on, scratch};
use futures::StreamExt;
use std::time::Instant;
use trireme_store::{Store, Template, Txn};

const OBJECTS: usize = 150_000;
const UPDATES: usize = 1_000_000;

pub fn measure(table: &mut Table) -> Outcome {
    let dir = scratch()?;
    let data = dir.path().join("data");
    block_on(async {
        // Config maps of a pod's size: a node agent would take up pods.
        let store = Store::open(&data.join("store"))?;
        let writes = futures::stream::iter(0..OBJECTS).map(|n| {
            let text = serde_json::json!({
                "kind": "ConfigMap", "apiVersion": "v1",
                "metadata": {"name": format!("c{n}"), "namespace": format!("n{}", n % 100),
                    "uid": format!("00000000-0000-4000-8000-{n:012}"), "creationTimestamp": "2026-01-01T00:00:00Z"},
                "data": {"pod": pod(n).to_string()}
            });
            store.commit(Txn::create(format!("configmaps/n{}/c{n}", n % 100), Template::plain(text.to_string())))
        });
        writes.buffer_unordered(512).for_each(|done| async { drop(done) }).await;
        drop(store);
        let started = Instant::now();
        let store = Store::open(&data.join("store"))?;
        let opened = started.elapsed();
        let held = store.topic("configmaps").snapshot().keys.len();
        if held != OBJECTS {
            return Err(format!("{held} of {OBJECTS} objects are there").into());
        }
        table.plain(format!("opening a store of {OBJECTS} objects"), format!("{:.0} ms", millis(opened)));
        drop(store);
        let mut cluster = Cluster::start(&data, &["--disable", "node"])?;
        let ready = cluster.ready().await?;
        table.budget(
            format!("start to /readyz ok with {OBJECTS} objects"),
            millis(ready),
            " ms",
            2_000.0,
            Better::Less,
        );
        drop(cluster);

        let dir = scratch()?;
        let store = Store::open(dir.path())?;
        let mut overwrite = Txn::create("a/same", Template::plain(vec![b'x'; 1_000]));
        overwrite.compare.clear();
        let (mut largest, started) = (0, Instant::now());
        for _ in 0..100 {
            let writes = futures::stream::iter(0..UPDATES / 100).map(|_| store.commit(overwrite.clone()));
            writes.buffer_unordered(256).for_each(|done| async { drop(done) }).await;
            let files = std::fs::read_dir(dir.path())?.filter_map(|e| e.ok()?.metadata().ok());
            largest = largest.max(files.map(|m| m.len()).sum::<u64>());
        }
        let rate = UPDATES as f64 / started.elapsed().as_secs_f64();
        table.plain(
            "most disk used while one key of 1 kB is overwritten 1,000,000 times",
            format!("{:.0} MB, at {} updates/s", largest as f64 / 1e6, crate::table::number(rate)),
        );
        Ok(())
    })
}
