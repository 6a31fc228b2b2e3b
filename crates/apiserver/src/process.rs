//! Numbers of this process (`/proc/self`, proc(5)) and of what the server is and holds.

use crate::catalogue::Served;
use crate::measure::Family;
use crate::server::ApiServer;
use std::fs;

/// Times in `/proc/self/stat` count in these, whatever the kernel's own clock (`USER_HZ`).
const TICKS: f64 = 100.0;

/// client_golang's metrics of the process. What cannot be read is left out.
fn process(out: &mut String) {
    let one = |out: &mut String, family: Family, value: Option<f64>| {
        if let Some(value) = value {
            family.set(&[], value);
            family.write(out);
        }
    };
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let stat = read("/proc/self/stat");
    // The program's name, in parentheses, may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(") ").map(|(_, rest)| rest.split(' ').collect()).unwrap_or_default();
    let ticks = |i: usize| fields.get(i).and_then(|text| text.parse::<f64>().ok()).map(|ticks| ticks / TICKS);
    let status = read("/proc/self/status");
    let bytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().trim_end_matches(" kB").parse::<f64>().ok().map(|kib| kib * 1024.0)
    };
    let booted = read("/proc/stat").lines().find_map(|line| line.strip_prefix("btime ")?.parse::<f64>().ok());
    let limits = read("/proc/self/limits");
    let most = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let most = most.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    let open = fs::read_dir("/proc/self/fd").ok().map(|dir| dir.count() as f64);
    let cpu = ticks(11).zip(ticks(12)).map(|(user, system)| user + system);
    let started = ticks(19).zip(booted).map(|(since, booted)| booted + since);
    one(out, Family::counter("process_cpu_seconds_total", &[], "CPU time"), cpu);
    one(out, Family::gauge("process_max_fds", &[], "Descriptors that may be open"), most);
    one(out, Family::gauge("process_open_fds", &[], "Descriptors that are open"), open);
    one(out, Family::gauge("process_resident_memory_bytes", &[], "Memory that is resident"), bytes("VmRSS:"));
    one(out, Family::gauge("process_start_time_seconds", &[], "When the process began"), started);
    one(out, Family::gauge("process_virtual_memory_bytes", &[], "Addresses that are used"), bytes("VmSize:"));
}

impl ApiServer {
    /// What the server is, what it holds, and what the process takes.
    pub(crate) fn own_metrics(&self, out: &mut String) {
        process(out);
        const BUILD: &[&str] = &["git_version", "major", "minor", "platform"];
        let build = Family::gauge("kubernetes_build_info", BUILD, "What this server is");
        let version = &self.config.version;
        let minor = version.split('.').nth(1).unwrap_or_default();
        build.set(&[version, "1", minor, &crate::health::platform()], 1.0);
        build.write(out);
        let objects = Family::gauge("apiserver_resource_objects", &["group", "resource"], "Stored objects");
        let of_old = Family::gauge("apiserver_storage_objects", &["resource"], "Stored objects");
        let shelf = self.catalogue.now();
        let has = |served: &Served, verb: &str| served.resource.verbs.iter().any(|v| v == verb);
        // What is made of others, or of nothing, is stored nowhere.
        let stored = shelf.all().filter(|served| served.conversion.is_none() && has(served, "watch"));
        for served in stored {
            let count = self.store.topic(&served.topic).snapshot().len() as f64;
            let (group, plural) = (served.group(), served.plural());
            objects.set(&[group, plural], count);
            let name = if group.is_empty() { plural.to_owned() } else { format!("{plural}.{group}") };
            of_old.set(&[&name], count);
        }
        objects.write(out);
        of_old.write(out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_tells_what_it_takes() {
        let mut out = String::new();
        process(&mut out);
        let value = |name: &str| {
            let line = out.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).unwrap();
            line.parse::<f64>().unwrap()
        };
        assert!(value("process_resident_memory_bytes") > 1e6 && value("process_open_fds") >= 3.0);
        assert!(value("process_max_fds") > value("process_open_fds"));
        let now = jiff::Timestamp::now().as_second() as f64;
        let age = now - value("process_start_time_seconds");
        assert!((-5.0..86_400.0).contains(&age), "{age}");
    }
}
