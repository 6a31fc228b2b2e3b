//! Sudden death: a child writes and says what was acknowledged; it is killed; what it said must be there.
//!
//! In a binary of its own: a fork holds the locks of all stores that are open, until it has become another program.

#![allow(clippy::unwrap_used)] // a test fails loudly

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use trireme_store::{Store, Template, Txn};

const DIR: &str = "TRIREME_STORE_CRASH_DIR";

/// Not a test by itself: what the child does.
#[test]
fn the_child_that_is_killed() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Store::open(Path::new(&dir)).unwrap();
        assert_eq!(store.damage(), []);
        let round = store.revision();
        let writers: Vec<_> = (0..32).map(|w| tokio::spawn(write(store.clone(), round, w))).collect();
        for writer in writers {
            writer.await.unwrap();
        }
    });
}

async fn write(store: Store, round: i64, writer: usize) {
    for n in 0.. {
        // Two keys in one transaction: both or none.
        let name = format!("{round}-{writer}-{n}");
        let mut txn = Txn::create(format!("a/{name}"), Template::with_hole("x".repeat(700), 5));
        txn.ops.extend(Txn::create(format!("b/{name}"), Template::plain("twin")).ops);
        store.commit(txn).await.unwrap();
        // One write per line, so that a line is whole or missing.
        std::io::stdout().write_all(format!("ACK {name}\n").as_bytes()).unwrap();
    }
}

#[tokio::test]
async fn an_acknowledged_write_survives_kill_9_and_none_is_half_there() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = BTreeSet::new();
    for round in 0..8 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["the_child_that_is_killed", "--exact", "--nocapture", "--test-threads=1"])
            .env(DIR, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut seen = 0;
        for line in lines.by_ref() {
            let line = line.unwrap();
            // The test harness writes its own text before the first.
            let Some((_, name)) = line.split_once("ACK ") else { continue };
            acknowledged.insert(name.to_owned());
            seen += 1;
            if seen == 50 + round * 97 {
                child.kill().unwrap();
                break;
            }
        }
        for line in lines.map_while(Result::ok) {
            acknowledged.extend(line.split_once("ACK ").map(|(_, name)| name.to_owned()));
        }
        child.wait().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let names = |topic: &str| -> BTreeSet<String> {
            store.topic(topic).snapshot().keys.keys().map(|k| k[2..].to_owned()).collect()
        };
        let (a, b) = (names("a"), names("b"));
        assert_eq!(a, b, "a transaction is half there");
        let lost: Vec<_> = acknowledged.difference(&a).collect();
        assert!(seen > 0 && lost.is_empty(), "round {round}: lost {lost:?}");
        assert_eq!(store.damage(), []);
    }
}
