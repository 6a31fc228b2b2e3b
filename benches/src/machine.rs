//! What it was measured on.

/// Date, processor, memory, kernel and load, in one line.
pub fn describe() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|l| l.strip_prefix("model name")).unwrap_or_default();
    let model = model.trim_start_matches([' ', '\t', ':']);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = read("/proc/meminfo");
    let total = memory.lines().find_map(|l| l.strip_prefix("MemTotal:")).unwrap_or_default();
    let kib: f64 = total.trim().trim_end_matches(" kB").parse().unwrap_or_default();
    let kernel = rustix::system::uname();
    let load = read("/proc/loadavg");
    format!(
        "{} UTC; {cores} cores of {model}, {:.0} GiB, Linux {}; load average at the end {}\n",
        jiff::Timestamp::now().strftime("%F %R"),
        kib / (1024.0 * 1024.0),
        kernel.release().to_string_lossy(),
        load.split(' ').next().unwrap_or_default(),
    )
}
