//! `trireme simulate`: nodes that are not there.

use crate::cli::{Common, Output};
use crate::control_plane::KUBECONFIG;
use crate::print;
use crate::signals::Signals;
use crate::usage::Usage;
use crate::{Failure, version};
use clap::Args;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use trireme_client::Context;
use trireme_simulate::{Options, OverHttps, Rate, Simulation, Size, Snapshot, Span, Times, Trouble, Zone};
use trireme_telemetry::LogConfig;

/// Nodes that are not there.
#[derive(Args, Clone, Debug)]
pub struct Simulate {
    /// How many nodes
    #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub nodes: u32,
    /// Kubeconfig of an administrator, who may impersonate nodes [default: DIR/kubeconfig]
    #[arg(long, env = "KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// What the nodes' names begin with
    #[arg(long, value_name = "PREFIX", default_value = "simulated-")]
    pub prefix: String,
    /// Zones that the nodes are in, in turn, each ZONE or REGION/ZONE
    #[arg(long, value_name = "ZONE", value_delimiter = ',')]
    pub zones: Vec<Zone>,
    /// Processors of a node
    #[arg(long, value_name = "QUANTITY", default_value = "32")]
    pub node_cpu: String,
    /// Memory of a node
    #[arg(long, value_name = "QUANTITY", default_value = "256Gi")]
    pub node_memory: String,
    /// Ephemeral storage of a node
    #[arg(long, value_name = "QUANTITY", default_value = "1Ti")]
    pub node_storage: String,
    /// The most pods on a node
    #[arg(long, value_name = "N", default_value_t = 110)]
    pub node_pods: u32,
    /// Further labels of the nodes
    #[arg(long, value_name = "KEY=VALUE", value_delimiter = ',')]
    pub label: Vec<String>,
    /// Taints of the nodes
    #[arg(long, value_name = "KEY=VALUE:EFFECT", value_delimiter = ',')]
    pub taint: Vec<String>,
    /// From when a node hears of a pod until its containers run: a time, or one between two
    #[arg(long, value_name = "TIME", default_value = "50ms..2s")]
    pub start_time: Span,
    /// How long a node pulls an image that it does not have yet [default: it has all]
    #[arg(long, value_name = "TIME")]
    pub pull_time: Option<Span>,
    /// How long containers run of pods that are not always restarted
    #[arg(long, value_name = "TIME", default_value = "10s")]
    pub run_time: Span,
    /// How long containers take to stop
    #[arg(long, value_name = "TIME", default_value = "100ms..1s")]
    pub stop_time: Span,
    /// Pods in which a container fails: a share and a time, such as 1%/min
    #[arg(long, value_name = "RATE")]
    pub fail_pods: Option<Rate>,
    /// Nodes that are not heard of for a while: a share and a time, such as 0.5%/min
    #[arg(long, value_name = "RATE")]
    pub flap_nodes: Option<Rate>,
    /// How long they are not heard of
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = trireme_simulate::duration)]
    pub flap_for: Duration,
    /// A zone that is lost, and does not come back
    #[arg(long, value_name = "ZONE")]
    pub kill_zone: Option<String>,
    /// After how long it is lost
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = trireme_simulate::duration)]
    pub after: Duration,
    /// What chance begins with
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// How long it goes on [default: until Ctrl-C]
    #[arg(long, value_name = "TIME", value_parser = trireme_simulate::duration)]
    pub duration: Option<Duration>,
    /// Leave the nodes in the cluster
    #[arg(long)]
    pub keep: bool,
    /// Form of the report
    #[arg(long, short = 'o', value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// A line on a terminal is written over this often.
const OFTEN: Duration = Duration::from_secs(1);
/// Elsewhere there is a line in this time.
const SELDOM: Duration = Duration::from_secs(10);

/// Simulates nodes and prints how it went.
///
/// # Errors
/// What keeps the first node from registering, or nodes that could not be removed.
pub fn run(common: &Common, args: &Simulate) -> Result<(), Failure> {
    let options = options(args)?;
    let path = kubeconfig(common, args);
    let context = Context::read(&path)?;
    let wrong = |why: String| format!("{}: {why}", path.display());
    let access = Arc::new(OverHttps::new(&context, options.nodes).map_err(wrong)?);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        let mut signals = Signals::take()?;
        trireme_telemetry::start(&LogConfig { level: common.log_level.clone(), format: common.log_format })?;
        let simulation = tokio::select! {
            started = Simulation::start(options, access) => started.map_err(|e| format!("cannot register a node: {e}"))?,
            () = signals.next() => return Ok(()),
        };
        watch(&simulation, &mut signals, args.duration).await;
        let report = simulation.stop().await;
        match args.output {
            Output::Text => print::text(&report.to_string())?,
            output => print::show(&report.value().into(), output)?,
        }
        if args.keep {
            return Ok(());
        }
        tokio::select! {
            left = simulation.remove() => match left {
                0 => Ok(()),
                left => Err(format!("{left} nodes could not be removed").into()),
            },
            () = signals.next() => Err("stopped before all nodes were removed".into()),
        }
    });
    // Calls that nobody waits for any more must not hold up the end.
    runtime.shutdown_background();
    result
}

/// Shows how it goes until the time is over or somebody says stop.
async fn watch(simulation: &Simulation, signals: &mut Signals, duration: Option<Duration>) {
    let terminal = std::io::stderr().is_terminal();
    let every = if terminal { OFTEN } else { SELDOM };
    let end = duration.map(|duration| Instant::now() + duration);
    let mut ticks = tokio::time::interval_at(Instant::now() + every, every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut before = simulation.snapshot();
    loop {
        tokio::select! {
            () = signals.next() => break,
            () = tokio::time::sleep_until(end.unwrap_or_else(Instant::now)), if end.is_some() => break,
            _ = ticks.tick() => {
                let now = simulation.snapshot();
                let text = line(&before, &now);
                // A closed standard error stops nothing.
                let mut out = std::io::stderr().lock();
                let _ = if terminal { write!(out, "\r\x1b[2K{text}") } else { writeln!(out, "{text}") };
                before = now;
            }
        }
    }
    if terminal {
        let _ = writeln!(std::io::stderr().lock());
    }
}

fn line(before: &Snapshot, now: &Snapshot) -> String {
    let time = (now.time - before.time).as_secs_f64().max(0.001);
    let rate = |count: u64| (count as f64 / time).round();
    let p99 = now.p99.map(|p99| format!(" (p99 {})", crate::progress::human(p99))).unwrap_or_default();
    format!(
        "{:>5.0}s  nodes {}/{}  pods {} pending, {} running, {} over  {} starts/s  {} calls/s{p99}",
        now.time.as_secs_f64(),
        now.ready,
        now.nodes,
        now.pending,
        now.running,
        now.over,
        rate(now.started - before.started),
        rate(now.calls),
    )
}

fn kubeconfig(common: &Common, args: &Simulate) -> PathBuf {
    // The variable may hold a list; the first is the one that counts for us.
    let named = args.kubeconfig.as_ref().and_then(|list| std::env::split_paths(list).next());
    named.filter(|path| !path.as_os_str().is_empty()).unwrap_or_else(|| common.data_dir.join(KUBECONFIG))
}

fn options(args: &Simulate) -> Result<Options, Usage> {
    let quantities =
        [("node-cpu", &args.node_cpu), ("node-memory", &args.node_memory), ("node-storage", &args.node_storage)];
    if let Some((flag, text)) =
        quantities.into_iter().find(|(_, text)| text.parse::<trireme_schema::Quantity>().is_err())
    {
        return Err(Usage(format!("--{flag} {text:?} is no quantity: write 4, 500m, 64Gi")));
    }
    if !crate::usage::is_subdomain(&format!("{}0", args.prefix)) {
        return Err(Usage(format!(
            "--prefix {:?} begins no name of lower case letters, digits, '-' and '.'",
            args.prefix
        )));
    }
    if let Some(zone) = args.kill_zone.as_ref().filter(|zone| !args.zones.iter().any(|known| known.name == **zone)) {
        return Err(Usage(format!("--kill-zone {zone:?} is none of --zones")));
    }
    let kill = args.kill_zone.clone().map(|zone| (zone, args.after));
    Ok(Options {
        nodes: usize::try_from(args.nodes).map_err(|e| Usage(e.to_string()))?,
        prefix: args.prefix.clone(),
        zones: args.zones.clone(),
        size: Size {
            cpu: args.node_cpu.clone(),
            memory: args.node_memory.clone(),
            storage: args.node_storage.clone(),
            pods: args.node_pods,
        },
        labels: crate::node::pairs("label", &args.label).map_err(Usage)?,
        taints: crate::node::triples("taint", &args.taint).map_err(Usage)?,
        times: Times { start: args.start_time, pull: args.pull_time, run: args.run_time, stop: args.stop_time },
        trouble: Trouble {
            fail_pods: args.fail_pods.unwrap_or_default(),
            flap_nodes: args.flap_nodes.unwrap_or_default(),
            flap_for: args.flap_for,
            kill,
        },
        seed: args.seed,
        version: version::TRIREME.to_owned(),
        kubernetes: version::KUBERNETES.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;

    fn read(flags: &[&str]) -> Result<Options, String> {
        let args = ["trireme", "simulate", "--nodes", "20"].iter().chain(flags);
        let cli = Cli::try_parse_from(args).map_err(|e| e.to_string())?;
        let Command::Simulate(args) = cli.command else { panic!() };
        options(&args).map_err(|e| e.0)
    }

    #[test]
    fn flags_become_options() {
        let flags = [
            "--zones",
            "eu/a,b",
            "--kill-zone",
            "b",
            "--after",
            "5m",
            "--taint",
            "k=v:NoSchedule",
            "--fail-pods",
            "1%/min",
        ];
        let options = read(&flags).unwrap();
        assert_eq!(options.trouble.kill, Some(("b".into(), Duration::from_secs(300))));
        assert_eq!(options.taints, [("k".into(), "v".into(), "NoSchedule".into())]);
        assert_eq!((options.name(7), options.times.start.to_string()), ("simulated-07".into(), "50ms..2s".into()));
    }

    #[test]
    fn mistakes_are_named() {
        for (flags, said) in [
            (&["--kill-zone", "a"][..], "--kill-zone"),
            (&["--node-cpu", "many"], "--node-cpu"),
            (&["--prefix", "Node_"], "--prefix"),
            (&["--label", "x"], "--label"),
            (&["--taint", "x"], "--taint"),
            (&["--start-time", "2s..1s"], "longer"),
            (&["--fail-pods", "1"], "rate"),
            (&["--nodes", "0"], "--nodes"),
        ] {
            let error = read(flags).unwrap_err();
            assert!(error.contains(said), "{flags:?}: {error}");
        }
    }

    #[test]
    fn progress_is_one_line() {
        let snapshot = |seconds, started, calls| Snapshot {
            time: Duration::from_secs(seconds),
            ready: 500,
            nodes: 500,
            pending: 3,
            running: 1997,
            over: 0,
            started,
            calls,
            p99: Some(Duration::from_millis(40)),
        };
        let text = line(&snapshot(10, 100, 0), &snapshot(20, 1100, 2000));
        let want = "   20s  nodes 500/500  pods 3 pending, 1997 running, 0 over  100 starts/s  200 calls/s (p99 40 ms)";
        assert_eq!(text, want);
    }
}
