//! A report for people.

use super::Report;
use crate::Histogram;
use std::fmt::{self, Write as _};
use std::time::Duration;

/// Three figures of a time.
fn time(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match seconds {
        ..0.001 => format!("{} µs", time.as_micros()),
        ..0.01 => format!("{:.1} ms", seconds * 1e3),
        ..1.0 => format!("{:.0} ms", seconds * 1e3),
        ..100.0 => format!("{seconds:.1} s"),
        _ => format!("{seconds:.0} s"),
    }
}

fn bytes(bytes: f64) -> String {
    format!("{:.0} MiB", bytes / f64::from(1 << 20))
}

/// A histogram in one line, a sign for each doubling.
fn sketch(times: &Histogram) -> String {
    const SIGNS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let rows = times.rows();
    let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return String::new() };
    let most = rows.iter().map(|row| row.count).max().unwrap_or(1).max(1);
    let sign = |count: u64| match count {
        0 => ' ',
        count => SIGNS[usize::try_from(count * 7 / most).unwrap_or(0).min(7)],
    };
    let signs: String = rows.iter().map(|row| sign(row.count)).collect();
    format!("{} {signs} {}", time(first.up_to), time(last.up_to))
}

fn row(out: &mut String, name: &str, times: &Histogram) {
    let at = |percent| times.percentile(percent).map_or("-".to_owned(), time);
    let most = if times.count() > 0 { time(times.most()) } else { "-".to_owned() };
    let count = times.count();
    let _ = write!(out, "{name:<28} {count:>8} {:>8} {:>8} {:>8} {most:>8}", at(50.0), at(90.0), at(99.0));
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (nodes, pods, latencies) = (&self.nodes, &self.pods, &self.latencies);
        writeln!(f, "{} simulated nodes for {:.0} s, seed {}", nodes.asked, self.time.as_secs_f64(), self.seed)?;
        write!(f, "\nNodes  {} registered, {} answer", nodes.registered, nodes.ready)?;
        for (count, what) in [
            (nodes.flaps, "silences"),
            (nodes.killed, "killed"),
            (nodes.without_addresses, "without addresses for pods (is the cluster CIDR used up?)"),
        ] {
            if count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        write!(f, "\nPods   {} scheduled, {} started", pods.scheduled, pods.started)?;
        for (count, what) in [
            (pods.succeeded, "succeeded"),
            (pods.failed, "failed"),
            (pods.deleted, "deleted"),
            (pods.pending, "pending"),
            (pods.running, "running"),
        ] {
            if count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        if pods.restarted > 0 {
            write!(f, "; {} restarts of containers", pods.restarted)?;
        }
        let heading =
            |name: &str| format!("\n\n{name:<28} {:>8} {:>8} {:>8} {:>8} {:>8}\n", "COUNT", "P50", "P90", "P99", "MAX");
        f.write_str(&heading("PODS, AS THEY WERE SEEN"))?;
        for (name, times) in [
            ("created to bound", &latencies.created_to_bound),
            ("bound to running", &latencies.bound_to_running),
            ("created to running", &latencies.created_to_running),
        ] {
            let mut line = String::new();
            row(&mut line, name, times);
            writeln!(f, "{}", format!("{line}  {}", sketch(times)).trim_end())?;
        }
        f.write_str(heading("CALLS OF NODES").get(1..).unwrap_or_default())?;
        for (call, times) in &self.calls {
            let code = call.code.map_or("no answer".to_owned(), |code| code.to_string());
            let mut line = String::new();
            row(&mut line, &format!("{} {} {code}", call.verb, call.resource), times);
            writeln!(f, "{line}")?;
        }
        writeln!(f, "{:<28} {:>8}", "watch pods", self.watches)?;
        writeln!(f)?;
        let usage = &self.control_plane;
        if usage.memory.is_some() || usage.cpu.is_some() {
            let memory = usage.memory.map(|memory| {
                format!("memory {} to {}, at most {}", bytes(memory.first), bytes(memory.last), bytes(memory.most))
            });
            let cpu = usage.cpu.map(|(cpu, time)| {
                format!("{cpu:.1} s of a processor, {:.0} % of one", cpu / time.as_secs_f64() * 100.0)
            });
            let told: Vec<String> = memory.into_iter().chain(cpu).collect();
            writeln!(f, "Control plane  {}", told.join("; "))?;
        }
        if let Some((now, most)) = self.memory {
            writeln!(f, "This program   memory {}, at most {}", bytes(now as f64), bytes(most as f64))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::report::example;

    #[test]
    fn a_report_has_a_line_for_each_thing() {
        let text = example().to_string();
        for part in [
            "5 simulated nodes for 123 s, seed 1",
            "Nodes  5 registered, 4 answer, 2 silences, 1 killed\n",
            "Pods   4 scheduled, 4 started, 1 succeeded, 3 running; 3 restarts of containers\n",
            "patch leases 200",
            "patch leases no answer",
            "Control plane  12.0 s of a processor, 10 % of one\n",
            "This program   memory 48 MiB, at most 57 MiB\n",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        let row = |name: &str| {
            text.lines().find(|line| line.starts_with(name)).unwrap().split_whitespace().collect::<Vec<_>>()
        };
        assert_eq!(row("bound to running")[3..], ["0", "-", "-", "-", "-"]);
        assert_eq!(row("created to bound")[3], "4");
    }
}
