//! Where the last lines of a file begin.

use std::io::{Read, Result, Seek, SeekFrom};

/// So much is read at a time, from the end backwards.
const BLOCK: u64 = 64 << 10;

/// Goes to where the last `lines` whole lines begin; what follows the last line break is no line yet, and is behind it.
pub(super) fn seek_tail(file: &mut (impl Read + Seek), lines: u64) -> Result<()> {
    let mut end = file.seek(SeekFrom::End(0))?;
    let mut left = lines;
    let mut block = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        file.seek(SeekFrom::Start(start))?;
        block.clear();
        file.by_ref().take(end - start).read_to_end(&mut block)?;
        for (index, _) in block.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            // The break before the first line that is wanted.
            if left == 0 {
                file.seek(SeekFrom::Start(start + index as u64 + 1))?;
                return Ok(());
            }
            left -= 1;
        }
        end = start;
    }
    file.seek(SeekFrom::Start(0))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn tail(text: &str, lines: u64) -> String {
        let mut file = Cursor::new(text);
        seek_tail(&mut file, lines).unwrap();
        let mut rest = String::new();
        file.read_to_string(&mut rest).unwrap();
        rest
    }

    #[test]
    fn the_last_lines_and_no_more() {
        for (text, lines, wanted) in [
            ("", 3, ""),
            ("a\nb\nc\n", 0, ""),
            ("a\nb\nc\n", 1, "c\n"),
            ("a\nb\nc\n", 3, "a\nb\nc\n"),
            ("a\nb\nc\n", 9, "a\nb\nc\n"),
            ("a\nb\nhalf", 1, "b\nhalf"),
            ("\n\n\n", 2, "\n\n"),
        ] {
            assert_eq!(tail(text, lines), wanted, "{text:?} {lines}");
        }
    }

    #[test]
    fn lines_may_be_longer_than_what_is_read_at_once() {
        let long = "x".repeat(3 * BLOCK as usize);
        let text = format!("{long}\n{long}\n{long}\n");
        assert_eq!(tail(&text, 2).len(), 2 * (long.len() + 1));
    }
}
