//! One blob from a registry into the content store: resumed, repeated, verified, once for everybody who wants it.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedMutexGuard, mpsc};

use super::blobs::Ingest;
use super::digest::Digest;
use super::error::{ImageError, Result};
use super::manifest::Descriptor;
use super::options::{Progress, PullEvent};
use super::registry::{Session, pause_after};
use super::store::{Store, blocking};

/// Pieces between the network and the disk.
const QUEUE: usize = 32;

/// What a fetch did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was here.
    Present,
    /// It came now.
    Fetched,
}

/// Brings the blob of a descriptor here.
pub async fn fetch(
    store: &Arc<Store>,
    session: &Session,
    kind: &'static str,
    blob: &Descriptor,
    progress: Option<&Progress>,
) -> Result<Outcome> {
    let digest = blob.digest;
    let gate = Arc::new(store.gate(digest).await);
    if store.blobs.size(digest) == Some(blob.size) {
        if let Some(progress) = progress {
            progress(PullEvent::Present { layer: digest });
        }
        return Ok(Outcome::Present);
    }
    let limits = session.wire().limits();
    let mut attempt = 0;
    loop {
        attempt += 1;
        let blobs = store.blobs.clone();
        let mut ingest = blocking(move || blobs.resume(digest)).await?;
        if ingest.written() > blob.size {
            ingest.restart()?;
        }
        let before = ingest.written();
        let (ingest, failure) = transfer(session, kind, blob, ingest, &gate, progress).await?;
        let written = ingest.written();
        let failure = match failure {
            Some(failure) => failure,
            None => {
                let (blobs, size) = (store.blobs.clone(), blob.size);
                match blocking(move || blobs.commit(kind, ingest, digest, size)).await {
                    Ok(()) => return Ok(Outcome::Fetched),
                    // What an earlier attempt left may have been the damage.
                    Err(error) if before > 0 && attempt < limits.attempts => {
                        tracing::warn!(%error, "resumed download is corrupt, fetching it from the start");
                        continue;
                    }
                    Err(error) => return Err(error),
                }
            }
        };
        if written > before {
            attempt = 1;
        }
        if !failure.is_transient() || attempt >= limits.attempts {
            return Err(failure);
        }
        let pause = pause_after(limits.pause, attempt, &failure);
        tracing::info!(%digest, written, size = blob.size, %failure, ?pause, "download interrupted, going on");
        tokio::time::sleep(pause).await;
    }
}

/// Reads until the end or an interruption, which is given back beside what has arrived.
async fn transfer(
    session: &Session,
    kind: &'static str,
    blob: &Descriptor,
    ingest: Ingest,
    gate: &Arc<OwnedMutexGuard<()>>,
    progress: Option<&Progress>,
) -> Result<(Ingest, Option<ImageError>)> {
    let (digest, size) = (blob.digest, blob.size);
    if ingest.written() == size && size > 0 {
        return Ok((ingest, None));
    }
    let answer = session.blob(digest, ingest.written()).await?;
    let restart = answer.offset != ingest.written();
    if restart && answer.offset != 0 {
        return Err(ImageError::Status {
            method: "GET".into(),
            url: answer.url,
            status: 206,
            message: format!("range begins at {}, not at {}", answer.offset, ingest.written()),
        });
    }
    let mut arrived = answer.offset;
    let (pieces, queue) = mpsc::channel::<Bytes>(QUEUE);
    // Should nobody wait any more, the writer still has its last pieces to write before another may go on.
    let gate = gate.clone();
    let writer = tokio::task::spawn_blocking(move || {
        let _gate = gate;
        write(ingest, restart, queue)
    });
    let mut body = answer.body;
    let mut failure = None;
    loop {
        match session.wire().next_bytes(&answer.url, &mut body).await {
            Ok(None) => break,
            Ok(Some(bytes)) => {
                arrived = arrived.saturating_add(bytes.len() as u64);
                if arrived > size {
                    // Nobody needs more to know that it is wrong, and the disk is finite.
                    failure = Some(ImageError::SizeMismatch { kind, digest, expected: size, actual: arrived });
                    break;
                }
                if pieces.send(bytes).await.is_err() {
                    // The writer gave up and says why below.
                    break;
                }
                if let Some(progress) = progress {
                    progress(PullEvent::Fetched { layer: digest, bytes: arrived, total: size });
                }
            }
            Err(error) => {
                failure = Some(error);
                break;
            }
        }
    }
    drop(pieces);
    let ingest = writer.await.map_err(|_| ImageError::Cancelled)??;
    if matches!(failure, Some(ImageError::SizeMismatch { .. })) {
        ingest.discard()?;
        return Err(failure.unwrap_or(ImageError::Cancelled));
    }
    Ok((ingest, failure))
}

fn write(mut ingest: Ingest, restart: bool, mut queue: mpsc::Receiver<Bytes>) -> Result<Ingest> {
    if restart {
        ingest.restart()?;
    }
    while let Some(bytes) = queue.blocking_recv() {
        ingest.write(&bytes)?;
    }
    Ok(ingest)
}

/// A small document by its descriptor, from the store or the registry.
pub async fn fetch_document(
    store: &Arc<Store>,
    session: &Session,
    kind: &'static str,
    document: &Descriptor,
    limit: u64,
) -> Result<Vec<u8>> {
    if document.size > limit {
        let reason = format!("{} bytes, more than {limit}", document.size);
        return Err(ImageError::manifest(format!("{kind} {}", document.digest), reason));
    }
    let digest: Digest = document.digest;
    for last in [false, true] {
        fetch(store, session, kind, document, None).await?;
        let blobs = store.blobs.clone();
        match blocking(move || blobs.read(kind, digest, limit)).await {
            // Damaged on our disk: once more from the registry.
            Err(error @ ImageError::DigestMismatch { .. }) if !last => {
                tracing::warn!(%error, "stored document is damaged, fetching it again");
                store.blobs.remove(digest)?;
            }
            result => return result,
        }
    }
    Err(ImageError::NotFound { what: format!("{kind} {digest}") })
}
