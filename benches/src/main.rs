//! Measures Trireme against its budgets and its peers, and prints one table as Markdown.
//!
//! `trireme-bench [SECTION ...]`; without a section, all of them. What is measured in processes of its own uses the
//! `trireme` beside this binary; root, an unused machine, and about five minutes are needed. Options come by environment:
//! `TRIREME_BENCH_DIR` (where to write; default /tmp), `TRIREME_BENCH_PORT`, `TRIREME_BENCH_NET` (second octet of pods'
//! addresses; the next one is for services).

mod api;
mod bare;
mod cluster;
mod durable;
#[cfg(feature = "engines")]
mod engines;
mod etcd;
mod footprint;
mod image;
mod lists;
mod machine;
mod plane;
mod pods;
mod recovery;
mod rules;
mod scheduling;
mod table;
mod watchers;

use std::io::Write;
use table::Table;

/// A measurement failed; the text says which and why.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;
/// What a measurement adds to the table.
pub(crate) type Outcome = Result<(), Failure>;

type Measure = fn(&mut Table) -> Outcome;

/// Sections by name, in the order of the table.
const SECTIONS: &[(&str, Measure)] = &[
    ("footprint", footprint::measure),
    ("pods", pods::measure),
    ("durable", durable::measure),
    ("api", api::measure),
    ("lists", lists::measure),
    ("watchers", watchers::measure),
    ("recovery", recovery::measure),
    ("rules", rules::measure),
    ("scheduling", scheduling::measure),
    #[cfg(feature = "engines")]
    ("engines", engines::measure),
];

fn main() -> std::process::ExitCode {
    let chosen: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let mut table = Table::default();
    let mut failed = false;
    for (name, measure) in SECTIONS {
        if !chosen.is_empty() && !chosen.iter().any(|c| c == name) {
            continue;
        }
        say(&format!("measuring {name} ..."));
        if let Err(failure) = measure(&mut table) {
            say(&format!("{name}: {failure}"));
            failed = true;
        }
    }
    let text = format!("{}\n{table}", machine::describe());
    if std::io::stdout().write_all(text.as_bytes()).is_err() || failed {
        return std::process::ExitCode::FAILURE;
    }
    std::process::ExitCode::SUCCESS
}

/// Progress goes to standard error, so that the table alone is on standard output.
pub(crate) fn say(text: &str) {
    // A closed standard error does not change what is measured.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// A runtime with as many threads as the machine has.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work)
}

/// A directory to measure in, on the disk that is to be measured.
pub(crate) fn scratch() -> Result<tempfile::TempDir, Failure> {
    let base = std::env::var_os("TRIREME_BENCH_DIR").map_or_else(std::env::temp_dir, Into::into);
    Ok(tempfile::Builder::new().prefix("trireme-bench-").tempdir_in(base)?)
}
