//! The life of a process that serves: from its start until a signal, or until a part that it cannot be without fails.

use crate::Failure;
use crate::progress::Progress;
use crate::signals::Signals;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// What the parts of a process share.
#[derive(Clone)]
pub struct Life {
    /// Cancelled when the process ends.
    pub stop: CancellationToken,
    failed: mpsc::Sender<Failure>,
}

impl Life {
    /// A part that the process cannot be without has failed.
    pub fn fail(&self, failure: Failure) {
        // The first failure ends the process; there is no need for another.
        let _ = self.failed.try_send(failure);
    }
}

/// All that runs has ended by then, or is left.
const PATIENCE: Duration = Duration::from_secs(20);

/// Starts something that runs until a signal comes or a part fails, and then ends it. A second signal ends the process at
/// once.
///
/// # Errors
/// What kept it from starting, or failed.
pub fn until_told<E: Future<Output = ()>>(
    progress: &Progress,
    start: impl AsyncFnOnce(Life) -> Result<E, Failure>,
) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        let mut signals = Signals::take()?;
        let stop = CancellationToken::new();
        let (failed, mut failures) = mpsc::channel(1);
        let ended = tokio::select! {
            started = start(Life { stop: stop.clone(), failed: failed.clone() }) => started?,
            // Whatever was made so far is found again by the next start, as after a crash.
            () = signals.next() => return Ok(()),
        };
        let result = tokio::select! {
            () = signals.next() => {
                progress.say("stopping; the workloads run on (Ctrl-C again to quit at once)");
                Ok(())
            }
            Some(failure) = failures.recv() => Err(failure),
        };
        stop.cancel();
        tokio::select! {
            () = ended => result,
            () = signals.next() => result.and(Err("stopped at once".into())),
            () = tokio::time::sleep(PATIENCE) => {
                result.and(Err(format!("not all had ended after {} s", PATIENCE.as_secs()).into()))
            }
        }
    });
    // Threads that still wait for the kernel must not hold up the end.
    runtime.shutdown_background();
    result
}
