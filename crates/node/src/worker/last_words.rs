//! What a container left to be told: its termination file, or the end of its log.

use crate::config::NodeConfig;
use crate::container::termination_file;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use trireme_cri::ContainerStatus;
use trireme_schema::Value;

/// As much is told of the file.
const MOST: u64 = 4096;
/// As much is told of the log.
const LINES: usize = 80;
const MOST_OF_LOG: usize = 2048;

/// What a container that ended has to say.
pub(super) fn read(config: &NodeConfig, pod: &Value, name: &str, status: &ContainerStatus) -> String {
    let attempt = status.metadata.as_ref().map_or(0, |m| m.attempt);
    let mut bytes = Vec::new();
    if let Ok(file) = std::fs::File::open(termination_file(config, pod, name, attempt)) {
        let _ = file.take(MOST).read_to_end(&mut bytes);
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let spec = crate::spec::container(pod, name);
    let falls_back = spec.is_some_and(|s| s.str_at(&["terminationMessagePolicy"]) == "FallbackToLogsOnError");
    if text.is_empty() && falls_back && status.exit_code != 0 {
        return end_of_log(Path::new(&status.log_path));
    }
    text
}

fn end_of_log(path: &Path) -> String {
    // Each line has a time and a tag before its text.
    const WINDOW: u64 = 64 << 10;
    let mut bytes = Vec::new();
    if let Ok(mut file) = std::fs::File::open(path) {
        let length = file.metadata().map(|m| m.len()).unwrap_or_default();
        let _ = file.seek(SeekFrom::Start(length.saturating_sub(WINDOW)));
        let _ = file.take(WINDOW).read_to_end(&mut bytes);
    }
    let text = String::from_utf8_lossy(&bytes);
    let parts: Vec<(bool, &str)> = text
        .lines()
        .filter_map(|line| {
            let mut words = line.splitn(4, ' ').skip(2);
            Some((words.next()? == "F", words.next()?))
        })
        .collect();
    let mut out = String::new();
    for (whole, part) in parts.iter().skip(parts.len().saturating_sub(LINES)) {
        out.push_str(part);
        if *whole {
            out.push('\n');
        }
    }
    let mut from = out.len().saturating_sub(MOST_OF_LOG);
    while !out.is_char_boundary(from) {
        from += 1;
    }
    out.split_off(from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_ends_with_whole_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        std::fs::write(&path, "T stdout F one\nT stderr P tw\nT stderr F o\n").unwrap();
        assert_eq!(end_of_log(&path), "one\ntwo\n");
        assert_eq!(end_of_log(&dir.path().join("none")), "");
    }
}
