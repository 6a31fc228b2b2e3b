//! Layers and archives as they come: plain, gzip or zstd, told apart by their first bytes, since media types lie.

use std::io::{self, BufRead, Read};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// A reader of the plain bytes of `source`.
pub fn decompress<'a>(mut source: impl BufRead + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
    let start = source.fill_buf()?;
    Ok(match start {
        [0x1f, 0x8b, ..] => Box::new(MultiGzDecoder::new(source)),
        // RFC 8878 3.1.1 and 3.1.2: a frame, or a skippable one before it.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
            Box::new(ZstdFrames { source, decoder: Box::new(FrameDecoder::new()), in_frame: false })
        }
        _ => Box::new(source),
    })
}

/// Zstandard frames one after the other: parallel compressors write many, zstd:chunked adds skippable ones.
struct ZstdFrames<R> {
    source: R,
    decoder: Box<FrameDecoder>,
    in_frame: bool,
}

// === impl ZstdFrames ===

impl<R: BufRead> Read for ZstdFrames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if self.in_frame {
                if self.decoder.can_collect() > 0 {
                    return self.decoder.read(buffer);
                }
                if self.decoder.is_finished() {
                    self.in_frame = false;
                    continue;
                }
                let step = self.decoder.decode_blocks(&mut self.source, BlockDecodingStrategy::UptoBlocks(1));
                step.map_err(|error| corrupt(format!("zstd: {error}")))?;
                continue;
            }
            if self.source.fill_buf()?.is_empty() {
                return Ok(0);
            }
            match self.decoder.reset(&mut self.source) {
                Ok(()) => self.in_frame = true,
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                    let length = u64::from(length);
                    if io::copy(&mut (&mut self.source).take(length), &mut io::sink())? < length {
                        return Err(corrupt("zstd: a skippable frame is cut off".into()));
                    }
                }
                Err(error) => return Err(corrupt(format!("zstd: {error}"))),
            }
        }
    }
}

fn corrupt(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn plain(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        decompress(bytes)?.read_to_end(&mut out)?;
        Ok(out)
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
    }

    #[test]
    fn all_forms_are_read_with_several_members_and_skippable_frames() {
        let text = b"the same words, the same words, the same words".repeat(1000);
        assert_eq!(plain(&text).unwrap(), text);
        assert_eq!(plain(&[gzip(&text), gzip(b"more")].concat()).unwrap(), [&text[..], b"more"].concat());
        let skip = [&[0x51, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
        let frames = [skip.clone(), zstd(&text), skip, zstd(b"more")].concat();
        assert_eq!(plain(&frames).unwrap(), [&text[..], b"more"].concat());
        assert_eq!(plain(b"").unwrap(), b"");
    }

    #[test]
    fn what_is_cut_off_is_an_error() {
        let text = b"abcdefgh".repeat(5000);
        for whole in [gzip(&text), zstd(&text), vec![0x51, 0x2a, 0x4d, 0x18, 9, 0, 0, 0, 1]] {
            assert!(plain(&whole[..whole.len() - 1]).is_err());
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(kind in 0usize..3, flip in 0usize..300, to in proptest::num::u8::ANY) {
            let text = b"some words to be compressed, some words".repeat(8);
            let mut bytes = match kind { 0 => gzip(&text), 1 => zstd(&text), _ => text };
            let at = flip % bytes.len();
            bytes[at] = to;
            let _ = plain(&bytes);
        }
    }
}
