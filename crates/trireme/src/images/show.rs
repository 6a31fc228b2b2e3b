//! Images as they are shown.

use super::line::Entry;
use crate::Failure;
use crate::cli::Output;
use crate::print;
use trireme_schema::{Map, Value};

/// Prints images.
///
/// # Errors
/// When standard output cannot be written.
pub fn images(images: &[Entry], output: Output) -> Result<(), Failure> {
    match output {
        Output::Text => print::text(&table(images)),
        Output::Json | Output::Yaml => {
            let list: Vec<Value> = images.iter().map(value).collect();
            let map = Map::from_iter([("images", Value::Array(list))]);
            print::show(&Value::Object(map), output)
        }
    }
}

fn value(image: &Entry) -> Value {
    let mut map = Map::new();
    map.insert("id", image.id.clone());
    map.insert("repoTags", image.repo_tags.clone());
    map.insert("repoDigests", image.repo_digests.clone());
    map.insert("size", i64::try_from(image.size).unwrap_or(i64::MAX));
    map.insert("pinned", image.pinned);
    Value::Object(map)
}

fn table(images: &[Entry]) -> String {
    let mut rows = vec![["IMAGE".to_owned(), "TAG".to_owned(), "IMAGE ID".to_owned(), "SIZE".to_owned()]];
    for image in images {
        for (name, tag) in names(image) {
            rows.push([name, tag, short(&image.id), size(image.size)]);
        }
    }
    rows.get_mut(1..).unwrap_or_default().sort();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let (name, tag, id) = (width(0), width(1), width(2));
    rows.iter().map(|[n, t, i, s]| format!("{n:name$}   {t:tag$}   {i:id$}   {s}\n")).collect()
}

/// An image has a row for each of its tags; one without a tag is named by its digest.
fn names(image: &Entry) -> Vec<(String, String)> {
    let tagged = image.repo_tags.iter().filter_map(|full| full.rsplit_once(':'));
    let rows: Vec<_> = tagged.map(|(name, tag)| (name.to_owned(), tag.to_owned())).collect();
    if !rows.is_empty() {
        return rows;
    }
    let name = image.repo_digests.first().and_then(|full| full.split_once('@')).map_or("<none>", |(name, _)| name);
    vec![(name.to_owned(), "<none>".to_owned())]
}

fn short(id: &str) -> String {
    id.trim_start_matches("sha256:").chars().take(13).collect()
}

/// A number of bytes, in decimal units as registries give them.
pub fn size(bytes: u64) -> String {
    let units = ["B", "kB", "MB", "GB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    let name = units.get(unit).copied().unwrap_or_default();
    if unit == 0 { format!("{bytes}{name}") } else { format!("{value:.0$}{name}", digits(value)) }
}

/// Three figures.
fn digits(value: f64) -> usize {
    if value < 9.995 {
        2
    } else if value < 99.95 {
        1
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_figures() {
        let cases = [(0, "0B"), (999, "999B"), (1_000, "1.00kB"), (12_345, "12.3kB"), (2_200_000_000, "2.20GB")];
        for (bytes, text) in cases {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn an_image_has_a_row_for_each_tag() {
        let image = |tags: &[&str], digests: &[&str]| Entry {
            id: "sha256:0123456789abcdef0".into(),
            repo_tags: tags.iter().map(|t| (*t).to_owned()).collect(),
            repo_digests: digests.iter().map(|t| (*t).to_owned()).collect(),
            size: 5,
            pinned: false,
        };
        let text = table(&[image(&["h:5000/b:2", "h:5000/a:1"], &[]), image(&[], &["c@sha256:0"]), image(&[], &[])]);
        let rows: Vec<Vec<&str>> = text.lines().map(|l| l.split_whitespace().collect()).collect();
        assert_eq!(rows[0], ["IMAGE", "TAG", "IMAGE", "ID", "SIZE"]);
        assert_eq!(rows[1][..2], ["<none>", "<none>"]);
        assert_eq!(rows[2][..2], ["c", "<none>"]);
        assert_eq!(rows[3], ["h:5000/a", "1", "0123456789abc", "5B"]);
        assert_eq!(rows[4][..2], ["h:5000/b", "2"]);
    }
}
