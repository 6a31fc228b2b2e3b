//! Upstream's pods that must pass and fail at each level of each version.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // a test fails loudly

use std::path::{Path, PathBuf};
use std::process::Command;
use trireme_podsecurity::{Level, Pod, Standard, Version, details, violations};
use trireme_schema::Value;

/// The recordings, where they lie beside the repository.
fn vectors() -> Option<PathBuf> {
    let above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let found = above.map(|dir| dir.join("shared/vectors/pod-security-admission")).find(|dir| dir.exists());
    if found.is_none() {
        println!("skipped: no vectors beside the repository");
    }
    found
}

/// The API's default: a volume without a source is an empty directory.
fn default_volumes(pod: &mut Value) {
    let volumes = pod.at_mut(&["spec", "volumes"]).and_then(Value::as_array_mut);
    for volume in volumes.into_iter().flatten().filter(|v| v.as_object().is_some_and(|m| m.len() == 1)) {
        volume.set_at(&["emptyDir"], Value::object());
    }
}

/// What is wrong with the answers for all pods below a directory, and how many they are.
fn judge(root: &Path) -> (usize, Vec<String>) {
    let mut wrong = Vec::new();
    let mut count = 0;
    for level in [Level::Baseline, Level::Restricted] {
        for version in std::fs::read_dir(root.join(format!("test/testdata/{level}"))).unwrap() {
            let version = version.unwrap().path();
            let minor: u32 =
                version.file_name().unwrap().to_str().unwrap().strip_prefix("v1.").unwrap().parse().unwrap();
            for (result, passes) in [("pass", true), ("fail", false)] {
                for file in std::fs::read_dir(version.join(result)).unwrap() {
                    let file = file.unwrap().path();
                    let mut pod = trireme_schema::yaml::parse(&std::fs::read_to_string(&file).unwrap()).unwrap();
                    default_volumes(&mut pod);
                    let found = violations(Standard { level, version: Version::Minor(minor) }, Pod::of(&pod));
                    // The standards of 1.37 are those of 1.36 for this server, but for sysctls that 1.37 adds.
                    let newer = minor > 36 && details(&found).contains("net.ipv4.tcp_");
                    if found.is_empty() != passes && !newer {
                        wrong.push(format!("{}: {}", file.display(), details(&found)));
                    }
                    count += 1;
                }
            }
        }
    }
    (count, wrong)
}

#[test]
fn pods_pass_and_fail_as_upstream_says() {
    let Some(dir) = vectors() else { return };
    let all = tempfile::tempdir().unwrap();
    let unpacked =
        Command::new("tar").arg("-xJf").arg(dir.join("all-versions.tar.xz")).arg("-C").arg(all.path()).status();
    let root = if unpacked.is_ok_and(|s| s.success()) {
        all.path()
    } else {
        println!("no tar or xz here: only the newest versions are looked at");
        &dir
    };
    let (count, wrong) = judge(root);
    println!("{count} pods");
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
}
