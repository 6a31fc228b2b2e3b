//! What a client of SPDY/3.1 says, whatever it is, neither ends in a panic nor holds a connection for ever.
//!
//! Deflated header blocks are hard to hit at random, so a seed with one is worth having in the corpus:
//! `printf '\200\003\000\001\000\000\000\012\000\000\000\001\000\000\000\000\000\000' > corpus/spdy/open`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::time::Duration;

fuzz_target!(|bytes: &[u8]| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let served = runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(10), trireme_streams::serve_spdy_bytes(bytes)).await
    });
    assert!(served.is_ok(), "a client that has gone is still served");
});
