//! Creations in batches that double: when every creation fails for one reason (quota, admission), few calls find out.

use std::future::Future;

use futures::future::join_all;

/// Runs `count` calls, first one, then two, then four; the batch with the first failure is the last. Gives the number
/// of successes and the first error.
pub(crate) async fn slow_start<E, F: Future<Output = Result<(), E>>>(
    count: usize,
    mut call: impl FnMut(usize) -> F,
) -> (usize, Option<E>) {
    let (mut succeeded, mut begun, mut batch) = (0, 0, 1);
    while begun < count {
        let size = batch.min(count - begun);
        let results = join_all((begun..begun + size).map(&mut call)).await;
        begun += size;
        let mut failure = None;
        for result in results {
            match result {
                Ok(()) => succeeded += 1,
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        if failure.is_some() {
            return (succeeded, failure);
        }
        batch *= 2;
    }
    (succeeded, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn a_failure_ends_the_work_with_its_batch() {
        let calls = AtomicUsize::new(0);
        let call = |at: usize| {
            calls.fetch_add(1, Ordering::Relaxed);
            async move { if at == 4 { Err("full") } else { Ok(()) } }
        };
        assert_eq!(slow_start(100, call).await, (6, Some("full")));
        assert_eq!(calls.load(Ordering::Relaxed), 7);
        assert_eq!(slow_start(10, |_| async { Ok::<(), ()>(()) }).await, (10, None));
    }
}
