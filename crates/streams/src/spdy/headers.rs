//! Header blocks: name and value pairs, compressed with one state for each direction of a connection.

use super::{Broken, dictionary};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// A block that is larger than this when unpacked ends the connection.
const LARGEST: usize = 64 << 10;
/// The most headers of a stream.
const MOST: u32 = 128;

/// Names in small letters, and their values.
pub(super) type Headers = Vec<(String, String)>;

/// Unpacks the blocks of one direction, in their order.
pub(super) struct Unpacker(Decompress);

impl Unpacker {
    pub(super) fn new() -> Self {
        Self(Decompress::new(true))
    }

    pub(super) fn unpack(&mut self, mut block: &[u8]) -> Result<Headers, Broken> {
        let mut out: Vec<u8> = Vec::with_capacity(1 << 10);
        loop {
            if out.len() == out.capacity() {
                if out.len() >= LARGEST {
                    return Err(Broken("a header block is too large"));
                }
                out.reserve(out.len());
            }
            let (read, had) = (self.0.total_in(), out.len());
            let result = self.0.decompress_vec(block, &mut out, FlushDecompress::Sync);
            let taken = usize::try_from(self.0.total_in() - read).unwrap_or(block.len());
            block = block.get(taken..).unwrap_or_default();
            match result {
                Ok(Status::StreamEnd) => break,
                Ok(_) if block.is_empty() && out.len() < out.capacity() => break,
                Ok(_) if taken == 0 && out.len() == had => break,
                Ok(_) => {}
                Err(error) if error.needs_dictionary().is_some() => {
                    self.0.set_dictionary(&dictionary::bytes()).map_err(|_| Broken("another dictionary"))?;
                }
                Err(_) => return Err(Broken("a header block cannot be unpacked")),
            }
        }
        parse(&out)
    }
}

/// Packs the blocks of one direction.
pub(super) struct Packer(Compress);

impl Packer {
    pub(super) fn new() -> Self {
        let mut compress = Compress::new(Compression::default(), true);
        // A dictionary is taken at the start of a stream, so this cannot fail.
        let _ = compress.set_dictionary(&dictionary::bytes());
        Self(compress)
    }

    pub(super) fn pack(&mut self, headers: &[(&str, &str)]) -> Vec<u8> {
        let mut plain = (headers.len() as u32).to_be_bytes().to_vec();
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            plain.extend_from_slice(&(text.len() as u32).to_be_bytes());
            plain.extend_from_slice(text.as_bytes());
        }
        let mut out = Vec::with_capacity(plain.len() + 64);
        let mut rest = &plain[..];
        loop {
            let before = self.0.total_in();
            let result = self.0.compress_vec(rest, &mut out, FlushCompress::Sync);
            rest = rest.get(usize::try_from(self.0.total_in() - before).unwrap_or(0)..).unwrap_or_default();
            if result.is_err() || (rest.is_empty() && out.len() < out.capacity()) {
                return out;
            }
            out.reserve(256);
        }
    }
}

fn parse(mut bytes: &[u8]) -> Result<Headers, Broken> {
    const SHORT: Broken = Broken("a header block is too short");
    let number = |bytes: &mut &[u8]| {
        let (head, rest) = bytes.split_first_chunk::<4>().ok_or(SHORT)?;
        *bytes = rest;
        Ok(u32::from_be_bytes(*head))
    };
    let count = number(&mut bytes)?;
    if count > MOST {
        return Err(Broken("too many headers"));
    }
    let text = |bytes: &mut &[u8]| {
        let length = number(bytes)? as usize;
        let (text, rest) = bytes.split_at_checked(length).ok_or(SHORT)?;
        *bytes = rest;
        Ok(String::from_utf8_lossy(text).into_owned())
    };
    let mut out = Vec::new();
    for _ in 0..count {
        let name = text(&mut bytes)?.to_ascii_lowercase();
        out.push((name, text(&mut bytes)?));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_one_connection_share_their_state() {
        let (mut packer, mut unpacker) = (Packer::new(), Unpacker::new());
        for headers in [&[("streamtype", "error"), ("port", "80")][..], &[("streamtype", "data")], &[]] {
            let want: Headers = headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
            assert_eq!(unpacker.unpack(&packer.pack(headers)).unwrap(), want);
        }
    }

    #[test]
    fn large_blocks_pass_and_too_large_ones_do_not() {
        let long = "x".repeat(20_000);
        let mut unpacker = Unpacker::new();
        let mut packer = Packer::new();
        assert_eq!(unpacker.unpack(&packer.pack(&[("a", &long)])).unwrap()[0].1.len(), 20_000);
        let bomb = "x".repeat(1 << 20);
        assert!(unpacker.unpack(&packer.pack(&[("a", &bomb)])).is_err());
    }

    #[test]
    fn nonsense_is_refused() {
        for bytes in [&b""[..], b"\xff\xff", &[0x78, 0x9c, 1, 2, 3]] {
            assert!(Unpacker::new().unpack(bytes).is_err());
        }
    }
}
