//! The demo's image: this program, and the libraries that it was started with.

use crate::Failure;
use crate::demo::app;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use trireme_runtime::images::{BuildEntry, BuildRequest, BuildSource, Images, RunConfig};

/// The image's name. Nothing is pulled from there.
pub const NAME: &str = concat!("trireme.local/demo:", env!("CARGO_PKG_VERSION"));
/// Where the program is in the image.
const PROGRAM: &str = "/trireme";
/// Where its libraries are.
const LIBRARIES: &str = "/lib";

/// Makes the image; the same program gives the same image.
///
/// # Errors
/// When a file cannot be read, or the store refuses the image.
pub async fn build(images: &Images) -> Result<(), Failure> {
    let entries = tokio::task::spawn_blocking(entries).await??;
    let run = RunConfig {
        user: "65532:65532".into(),
        env: vec![format!("LD_LIBRARY_PATH={LIBRARIES}")],
        entrypoint: vec![PROGRAM.into(), app::COMMAND.into()],
        ..RunConfig::default()
    };
    images.build(BuildRequest { image: NAME.into(), entries, run, pinned: true }).await?;
    Ok(())
}

fn entries() -> std::io::Result<Vec<BuildEntry>> {
    let program = PathBuf::from("/proc/self/exe");
    let mut head = Vec::new();
    File::open(&program)?.take(64 << 10).read_to_end(&mut head)?;
    let mut entries = vec![entry(PathBuf::from(PROGRAM), program)];
    // A program that is linked statically has no interpreter, and needs nothing else.
    if let Some(interpreter) = interpreter(&head) {
        entries.push(entry(interpreter.clone(), interpreter));
        for library in libraries(&std::fs::read_to_string("/proc/self/maps")?) {
            if let Some(name) = library.file_name() {
                entries.push(entry(Path::new(LIBRARIES).join(name), library));
            }
        }
    }
    Ok(entries)
}

fn entry(path: PathBuf, source: PathBuf) -> BuildEntry {
    BuildEntry { path, mode: Some(0o755), owner: (0, 0), source: BuildSource::Path(source) }
}

/// The interpreter that an ELF file of 64 bits names in its program headers (elf(5), PT_INTERP).
fn interpreter(elf: &[u8]) -> Option<PathBuf> {
    const INTERPRETER: u32 = 3;
    let word = |at: usize, bytes: usize| -> Option<u64> {
        let found = elf.get(at..at.checked_add(bytes)?)?;
        Some(found.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    };
    let offset = |at: usize| usize::try_from(word(at, 8)?).ok();
    if elf.get(..5)? != b"\x7fELF\x02" {
        return None;
    }
    let (table, size, count) = (offset(32)?, usize::from(word(54, 2)? as u16), usize::from(word(56, 2)? as u16));
    let header = (0..count)
        .filter_map(|n| table.checked_add(n * size))
        .find(|header| word(*header, 4) == Some(u64::from(INTERPRETER)))?;
    let start = offset(header + 8)?;
    let name = elf.get(start..start.checked_add(offset(header + 32)?)?)?;
    Some(PathBuf::from(std::str::from_utf8(name).ok()?.trim_end_matches('\0')))
}

/// The shared libraries of a process, by its memory map (proc_pid_maps(5)).
fn libraries(maps: &str) -> BTreeSet<PathBuf> {
    let paths = maps.lines().filter_map(|line| line.find('/').and_then(|at| line.get(at..)));
    paths.filter(|path| path.rsplit('/').next().is_some_and(|name| name.contains(".so"))).map(PathBuf::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_libraries_of_a_process_are_in_its_map() {
        let maps = "7f00-7f01 r-xp 0000 08:01 1    /usr/lib/x86_64-linux-gnu/libc.so.6\n\
                    7f01-7f02 r--p 0000 08:01 1    /usr/lib/x86_64-linux-gnu/libc.so.6\n\
                    5500-5501 r-xp 0000 08:01 2    /usr/bin/trireme\n7ffe-7fff rw-p 0000 00:00 0    [stack]\n";
        let found: Vec<PathBuf> = libraries(maps).into_iter().collect();
        assert_eq!(found, [PathBuf::from("/usr/lib/x86_64-linux-gnu/libc.so.6")]);
    }

    #[test]
    fn the_interpreter_is_in_the_program_headers_and_garbage_has_none() {
        let mut elf = vec![0; 200];
        elf[..5].copy_from_slice(b"\x7fELF\x02");
        elf[32] = 64; // where the table begins
        elf[54] = 56; // the size of a header
        elf[56] = 1; // how many
        elf[64] = 3;
        elf[72] = 130; // where the name is
        elf[96] = 9; // its length
        elf[130..139].copy_from_slice(b"/lib/ld.x");
        assert_eq!(interpreter(&elf), Some(PathBuf::from("/lib/ld.x")));
        elf[32] = 255;
        elf[39] = 255;
        assert_eq!(interpreter(&elf), None);
        assert_eq!(interpreter(b"#!/bin/sh"), None);
    }
}
