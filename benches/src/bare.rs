//! The least that durable group commit can cost: append what waits, fdatasync, tell the waiting.
//!
//! Preallocated, one writer, no comparison, no state, no events; the clients are threads that wait for their answer.

use crate::Failure;
use gate::Gate;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Size of the segment that is allocated ahead; overwritten from its start when it is full.
const SEGMENT: u64 = 64 << 20;

/// Appends of `value` per second by so many clients.
pub fn run(dir: &Path, clients: usize, value: &[u8], time: Duration) -> Result<f64, Failure> {
    let file = File::create(dir.join(format!("bare-{clients}")))?;
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, SEGMENT)?;
    file.sync_all()?;
    let gate = Arc::new(Gate::default());
    let started = Instant::now();
    let writers: Vec<_> = (0..clients)
        .map(|_| {
            let (gate, value) = (gate.clone(), value.to_vec());
            std::thread::spawn(move || {
                let mut done = 0_u64;
                while started.elapsed() < time {
                    gate.append(&value);
                    done += 1;
                }
                gate.leave();
                done
            })
        })
        .collect();
    let mut offset = 0;
    let mut left = 0;
    while left < clients {
        let (bytes, gone) = gate.take();
        left += gone;
        if !bytes.is_empty() {
            if offset + bytes.len() as u64 > SEGMENT {
                offset = 0;
            }
            file.write_all_at(&bytes, offset)?;
            file.sync_data()?;
            offset += bytes.len() as u64;
            gate.flushed();
        }
    }
    let total: u64 = writers.into_iter().map(|w| w.join().unwrap_or_default()).sum();
    Ok(total as f64 / started.elapsed().as_secs_f64())
}

/// Puts of `batch` values per flush by the writer alone: what the disk can do when nobody has to be told.
pub fn alone(dir: &Path, batch: usize, value: &[u8], time: Duration) -> Result<f64, Failure> {
    let file = File::create(dir.join(format!("alone-{batch}")))?;
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, SEGMENT)?;
    file.sync_all()?;
    let bytes = value.repeat(batch);
    let (started, mut offset, mut done) = (Instant::now(), 0, 0);
    while started.elapsed() < time {
        if offset + bytes.len() as u64 > SEGMENT {
            offset = 0;
        }
        file.write_all_at(&bytes, offset)?;
        file.sync_data()?;
        offset += bytes.len() as u64;
        done += batch;
    }
    Ok(done as f64 / started.elapsed().as_secs_f64())
}

/// Where clients and writer meet.
mod gate {
    use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

    #[derive(Default)]
    struct State {
        bytes: Vec<u8>,
        /// Number of the flush that what is added now will be part of.
        next: u64,
        flushed: u64,
        left: usize,
    }

    #[derive(Default)]
    pub struct Gate {
        state: Mutex<State>,
        work: Condvar,
        done: Condvar,
    }

    impl Gate {
        fn lock(&self) -> MutexGuard<'_, State> {
            self.state.lock().unwrap_or_else(PoisonError::into_inner)
        }

        pub fn append(&self, value: &[u8]) {
            let mut state = self.lock();
            state.bytes.extend_from_slice(value);
            let mine = state.next;
            self.work.notify_one();
            while state.flushed <= mine {
                state = self.done.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }

        pub fn leave(&self) {
            self.lock().left += 1;
            self.work.notify_one();
        }

        /// What waits, and how many clients have gone since the last call.
        pub fn take(&self) -> (Vec<u8>, usize) {
            let mut state = self.lock();
            while state.bytes.is_empty() && state.left == 0 {
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            state.next += 1;
            (std::mem::take(&mut state.bytes), std::mem::take(&mut state.left))
        }

        pub fn flushed(&self) {
            let mut state = self.lock();
            state.flushed = state.next;
            self.done.notify_all();
        }
    }
}
