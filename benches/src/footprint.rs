//! What an idle cluster takes: time to start, memory, processor, disk.

use crate::cluster::{Cluster, binary};
use crate::table::{Better, Table, millis};
use crate::{Failure, Outcome, block_on, scratch};
use std::time::Duration;

const STARTS: usize = 5;
const SETTLE: Duration = Duration::from_secs(30);
const IDLE: Duration = Duration::from_secs(30);
const MIB: f64 = 1024.0 * 1024.0;

pub fn measure(table: &mut Table) -> Outcome {
    let size = std::fs::metadata(binary()?)?.len() as f64 / MIB;
    table.budget("binary, stripped", size, " MiB", 40.0, Better::Less);
    block_on(async {
        let mut starts = Vec::new();
        for _ in 1..STARTS {
            let dir = scratch()?;
            starts.push(Cluster::start(&dir.path().join("data"), &[])?.ready().await?);
        }
        let dir = scratch()?;
        let mut cluster = Cluster::start(&dir.path().join("data"), &[])?;
        starts.push(cluster.ready().await?);
        starts.sort();
        let median = millis(starts[starts.len() / 2]);
        table.budget(
            format!("start to /readyz ok, fresh data directory, median of {STARTS}"),
            median,
            " ms",
            500.0,
            Better::Less,
        );
        tokio::time::sleep(SETTLE).await;
        let memory = memory(&cluster)?;
        let what = "memory of an idle single node, all processes";
        table.budget(format!("{what} (PSS)"), memory.pss / MIB, " MiB", 50.0, Better::Less);
        table.budget(format!("{what} (RSS)"), memory.rss / MIB, " MiB", 50.0, Better::Less);
        table.plain(format!("{what}, anonymous part"), format!("{:.1} MiB", memory.anonymous / MIB));
        let before = processor(&cluster)?;
        tokio::time::sleep(IDLE).await;
        let used = (processor(&cluster)? - before) / IDLE.as_secs_f64() * 100.0;
        table.budget("idle processor time, of one core, over 30 s", used, " %", 0.5, Better::Less);
        Ok(())
    })
}

#[derive(Default)]
struct Memory {
    rss: f64,
    pss: f64,
    anonymous: f64,
}

fn memory(cluster: &Cluster) -> Result<Memory, Failure> {
    let mut sum = Memory::default();
    for pid in cluster.processes()? {
        let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        let field = |name: &str| -> f64 {
            let line = text.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_default();
            line.trim().trim_end_matches(" kB").parse::<f64>().unwrap_or_default() * 1024.0
        };
        sum.rss += field("Rss:");
        sum.pss += field("Pss:");
        sum.anonymous += field("Anonymous:");
    }
    Ok(sum)
}

/// Processor time of all processes, in seconds.
fn processor(cluster: &Cluster) -> Result<f64, Failure> {
    let mut nanos = 0.0;
    for pid in cluster.processes()? {
        for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
            // The first number of schedstat is the time on a processor, in nanoseconds: ticks would be too coarse.
            let text = std::fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
            nanos += text.split(' ').next().and_then(|n| n.parse::<f64>().ok()).unwrap_or_default();
        }
    }
    Ok(nanos / 1e9)
}
