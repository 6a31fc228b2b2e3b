//! What changed between two texts, as upstream's messages show it: a unified diff with three lines around each change,
//! of the blocks that Ratcliff and Obershelp's way of matching finds (Python's `difflib`, which Go's diff follows).

use std::collections::HashMap;

const CONTEXT: usize = 3;

/// Matching lines: where they begin in both texts, and how many.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Block {
    a: usize,
    b: usize,
    size: usize,
}

/// A stretch of both texts that is the same, or is not.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Piece {
    equal: bool,
    a: (usize, usize),
    b: (usize, usize),
}

/// The diff; empty when nothing changed.
pub(crate) fn unified(old: &str, new: &str) -> String {
    let (a, b): (Vec<&str>, Vec<&str>) = (old.split('\n').collect(), new.split('\n').collect());
    let mut out = String::new();
    for hunk in hunks(&pieces(&a, &b)) {
        let (Some(first), Some(last)) = (hunk.first(), hunk.last()) else { continue };
        out.push_str(&format!("@@ -{} +{} @@\n", range(first.a.0, last.a.1), range(first.b.0, last.b.1)));
        for piece in &hunk {
            let mut lines = |sign: char, lines: &[&str]| {
                for line in lines {
                    out.push(sign);
                    out.push_str(line);
                    out.push('\n');
                }
            };
            if piece.equal {
                lines(' ', &a[piece.a.0..piece.a.1]);
            } else {
                lines('-', &a[piece.a.0..piece.a.1]);
                lines('+', &b[piece.b.0..piece.b.1]);
            }
        }
    }
    out
}

fn range(start: usize, stop: usize) -> String {
    match stop - start {
        1 => (start + 1).to_string(),
        0 => format!("{start},0"),
        length => format!("{},{length}", start + 1),
    }
}

fn pieces(a: &[&str], b: &[&str]) -> Vec<Piece> {
    let mut index: HashMap<&str, Vec<usize>> = HashMap::new();
    for (j, line) in b.iter().enumerate() {
        index.entry(line).or_default().push(j);
    }
    // Lines that are all over a long text say nothing about what belongs together.
    if b.len() >= 200 {
        let most = b.len() / 100 + 1;
        index.retain(|_, at| at.len() <= most);
    }
    let mut blocks = Vec::new();
    let mut queue = vec![(0, a.len(), 0, b.len())];
    while let Some((alo, ahi, blo, bhi)) = queue.pop() {
        let block = longest(a, b, &index, (alo, ahi), (blo, bhi));
        if block.size > 0 {
            blocks.push(block);
            queue.push((alo, block.a, blo, block.b));
            queue.push((block.a + block.size, ahi, block.b + block.size, bhi));
        }
    }
    blocks.sort_by_key(|block| (block.a, block.b));
    blocks.push(Block { a: a.len(), b: b.len(), size: 0 });
    let mut out: Vec<Piece> = Vec::new();
    let (mut i, mut j) = (0, 0);
    for block in blocks {
        if i < block.a || j < block.b {
            out.push(Piece { equal: false, a: (i, block.a), b: (j, block.b) });
        }
        (i, j) = (block.a + block.size, block.b + block.size);
        if block.size > 0 {
            match out.last_mut() {
                Some(last) if last.equal => (last.a.1, last.b.1) = (i, j),
                _ => out.push(Piece { equal: true, a: (block.a, i), b: (block.b, j) }),
            }
        }
    }
    out
}

fn longest(
    a: &[&str],
    b: &[&str],
    index: &HashMap<&str, Vec<usize>>,
    (alo, ahi): (usize, usize),
    (blo, bhi): (usize, usize),
) -> Block {
    let mut best = Block { a: alo, b: blo, size: 0 };
    let mut lengths: HashMap<usize, usize> = HashMap::new();
    for (i, line) in a.iter().enumerate().take(ahi).skip(alo) {
        let mut next = HashMap::new();
        for &j in index.get(line).into_iter().flatten().filter(|j| (blo..bhi).contains(*j)) {
            let size = 1 + j.checked_sub(1).and_then(|j| lengths.get(&j)).copied().unwrap_or(0);
            next.insert(j, size);
            if size > best.size {
                best = Block { a: i + 1 - size, b: j + 1 - size, size };
            }
        }
        lengths = next;
    }
    while best.a > alo && best.b > blo && a[best.a - 1] == b[best.b - 1] {
        best = Block { a: best.a - 1, b: best.b - 1, size: best.size + 1 };
    }
    while best.a + best.size < ahi && best.b + best.size < bhi && a[best.a + best.size] == b[best.b + best.size] {
        best.size += 1;
    }
    best
}

/// Changes with what is around them; those that are near each other come together.
fn hunks(pieces: &[Piece]) -> Vec<Vec<Piece>> {
    let mut pieces = pieces.to_vec();
    if let Some(first) = pieces.first_mut().filter(|p| p.equal) {
        first.a.0 = first.a.0.max(first.a.1.saturating_sub(CONTEXT));
        first.b.0 = first.b.0.max(first.b.1.saturating_sub(CONTEXT));
    }
    if let Some(last) = pieces.last_mut().filter(|p| p.equal) {
        last.a.1 = last.a.1.min(last.a.0 + CONTEXT);
        last.b.1 = last.b.1.min(last.b.0 + CONTEXT);
    }
    let mut out = Vec::new();
    let mut group: Vec<Piece> = Vec::new();
    for mut piece in pieces {
        if piece.equal && piece.a.1 - piece.a.0 > 2 * CONTEXT {
            let end = Piece {
                a: (piece.a.0, piece.a.1.min(piece.a.0 + CONTEXT)),
                b: (piece.b.0, piece.b.1.min(piece.b.0 + CONTEXT)),
                ..piece
            };
            group.push(end);
            out.push(std::mem::take(&mut group));
            piece.a.0 = piece.a.0.max(piece.a.1.saturating_sub(CONTEXT));
            piece.b.0 = piece.b.0.max(piece.b.1.saturating_sub(CONTEXT));
        }
        group.push(piece);
    }
    if group.iter().any(|p| !p.equal) {
        out.push(group);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_have_three_lines_around_them() {
        let old = "1\n2\n3\n4\n5\n6\n7\n8\n9";
        assert_eq!(unified(old, old), "");
        let new = old.replace("5", "five");
        assert_eq!(unified(old, &new), "@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+five\n 6\n 7\n 8\n");
        assert_eq!(unified("a", "a\nb"), "@@ -1 +1,2 @@\n a\n+b\n");
    }

    #[test]
    fn far_changes_are_told_apart() {
        let lines: Vec<String> = (0..30).map(|n| n.to_string()).collect();
        let mut changed = lines.clone();
        changed[2] = "x".into();
        changed[25] = "y".into();
        let told = unified(&lines.join("\n"), &changed.join("\n"));
        assert_eq!(told.matches("@@ -").count(), 2);
    }
}
