//! What the machine is short of.

use super::{first_line, number_after};
use crate::config::NodeConfig;
use std::fs;

/// Whether memory, disk and process ids are short (upstream's default hard thresholds).
pub(crate) fn pressures(config: &NodeConfig) -> [(&'static str, bool, &'static str, &'static str); 3] {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available = number_after(&text, "MemAvailable:").unwrap_or(i64::MAX / 2048) * 1024;
    let disk = rustix::fs::statvfs(&config.root).map(|s| s.f_bavail as f64 / (s.f_blocks.max(1)) as f64).unwrap_or(1.0);
    let most = first_line("/proc/sys/kernel/pid_max").parse::<f64>().unwrap_or(32_768.0);
    let load = first_line("/proc/loadavg");
    let used = load
        .split_whitespace()
        .nth(3)
        .and_then(|t| t.split('/').nth(1))
        .and_then(|t| t.parse::<f64>().ok())
        .unwrap_or(0.0);
    let memory = available < 100 << 20;
    let (disk, pids) = (disk < 0.10, used / most > 0.95);
    let pick =
        |bad: bool, yes: (&'static str, &'static str), no: (&'static str, &'static str)| if bad { yes } else { no };
    let m = pick(
        memory,
        ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
        ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    );
    let d = pick(
        disk,
        ("KubeletHasDiskPressure", "kubelet has disk pressure"),
        ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    );
    let p = pick(
        pids,
        ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
        ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
    );
    [("MemoryPressure", memory, m.0, m.1), ("DiskPressure", disk, d.0, d.1), ("PIDPressure", pids, p.0, p.1)]
}
