//! Reading a tar from a stream that nobody vouches for: compressed or not, with bounded headers, hashed on the way.

use std::cell::Cell;
use std::io::{self, BufReader, Read};
use std::rc::Rc;

use tar::{Archive, Entry};

use super::decompress::decompress;
use super::digest::{Digest, Hasher};

/// The most that the headers of one entry may take: long names and extended attributes.
const MAX_HEADERS: u64 = 4 << 20;

/// Where reading stopped.
#[derive(Debug)]
pub struct Broken {
    /// The entry, or where else.
    pub entry: String,
    /// Why.
    pub error: io::Error,
}

/// The plain tar under `walk`, as its entries see it.
pub struct Watched<'a> {
    source: Box<dyn Read + Send + 'a>,
    hasher: Hasher,
    budget: Rc<Cell<Option<u64>>>,
}

/// Shows each entry to `visit` and returns the digest of the plain tar.
pub fn walk<'a>(
    source: impl Read + Send + 'a,
    mut visit: impl FnMut(&mut Entry<'_, Watched<'a>>) -> io::Result<()>,
) -> Result<Digest, Broken> {
    let broken = |entry: &str| {
        let entry = entry.to_owned();
        move |error| Broken { entry, error }
    };
    let plain = decompress(BufReader::with_capacity(256 << 10, source)).map_err(broken("start"))?;
    let budget = Rc::new(Cell::new(None));
    let mut archive = Archive::new(Watched { source: plain, hasher: Hasher::default(), budget: budget.clone() });
    let mut entries = archive.entries().map_err(broken("start"))?;
    let mut last = "start".to_owned();
    loop {
        budget.set(Some(MAX_HEADERS));
        let Some(entry) = entries.next() else { break };
        budget.set(None);
        let mut entry = entry.map_err(broken(&format!("after {last}")))?;
        last = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        visit(&mut entry).map_err(broken(&last))?;
        // So that the next round reads headers only.
        io::copy(&mut entry, &mut io::sink()).map_err(broken(&last))?;
    }
    budget.set(None);
    let mut watched = archive.into_inner();
    // The digest is of the whole tar, with whatever follows its last entry.
    io::copy(&mut watched, &mut io::sink()).map_err(broken("end"))?;
    Ok(watched.hasher.finish())
}

// === impl Watched ===

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        self.hasher.update(buffer.get(..count).unwrap_or_default());
        if let Some(left) = self.budget.get() {
            let left = left.checked_sub(count as u64).ok_or_else(|| {
                let reason = format!("its headers take more than {MAX_HEADERS} bytes");
                io::Error::new(io::ErrorKind::InvalidData, reason)
            })?;
            self.budget.set(Some(left));
        }
        Ok(count)
    }
}
