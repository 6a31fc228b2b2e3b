//! Which of an index's manifests fits this machine.

use super::error::{ImageError, Result};
use super::manifest::{Descriptor, Index, Platform};

// === impl Platform ===

impl Platform {
    /// The machine that this binary was built for, in Go's words.
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", ""),
            "aarch64" => ("arm64", "v8"),
            "arm" => ("arm", "v7"),
            "x86" => ("386", ""),
            "powerpc64" => ("ppc64le", ""),
            other => (other, ""),
        };
        Platform { architecture: architecture.into(), os: "linux".into(), variant: variant.into() }
    }

    /// How well an image for `offered` runs here; none when it does not. Older variants run on newer processors.
    fn fit(&self, offered: &Platform) -> Option<u32> {
        if offered.os != self.os || offered.architecture != self.architecture {
            return None;
        }
        let level = |platform: &Platform| {
            let default = match platform.architecture.as_str() {
                "arm64" => 8,
                "arm" => 7,
                _ => 1,
            };
            match platform.variant.strip_prefix('v') {
                Some(number) => number.parse::<u32>().ok(),
                None if platform.variant.is_empty() => Some(default),
                None => None,
            }
        };
        let (mine, theirs) = (level(self)?, level(offered)?);
        (theirs <= mine).then_some(theirs)
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if !self.variant.is_empty() {
            write!(f, "/{}", self.variant)?;
        }
        Ok(())
    }
}

/// The entry for `wanted`: the best variant, the first of equals; an entry without a platform serves when no other fits.
pub fn choose<'a>(what: &str, index: &'a Index, wanted: &Platform) -> Result<&'a Descriptor> {
    let mut best: Option<(u32, &Descriptor)> = None;
    for entry in &index.manifests {
        if let Some(fit) = entry.platform.as_ref().and_then(|offered| wanted.fit(offered))
            && best.is_none_or(|(other, _)| fit > other)
        {
            best = Some((fit, entry));
        }
    }
    if let Some((_, entry)) = best.or_else(|| index.manifests.iter().find(|e| e.platform.is_none()).map(|e| (0, e))) {
        return Ok(entry);
    }
    let offered: Vec<String> =
        index.manifests.iter().filter_map(|e| e.platform.as_ref()).map(Platform::to_string).collect();
    Err(ImageError::NoPlatform { what: what.to_owned(), wanted: wanted.to_string(), offered: offered.join(", ") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::digest::Digest;

    fn index(platforms: &[(&str, &str, &str)]) -> Index {
        let manifests = platforms
            .iter()
            .enumerate()
            .map(|(i, (os, arch, variant))| Descriptor {
                platform: (!os.is_empty()).then(|| Platform {
                    os: (*os).into(),
                    architecture: (*arch).into(),
                    variant: (*variant).into(),
                }),
                ..Descriptor::new("", Digest::of(b""), i as u64)
            })
            .collect();
        Index { schema_version: 2, media_type: String::new(), manifests }
    }

    #[test]
    fn the_best_entry_that_runs_here_is_chosen() {
        let amd64 = Platform { os: "linux".into(), architecture: "amd64".into(), variant: String::new() };
        let arm = Platform { os: "linux".into(), architecture: "arm".into(), variant: "v7".into() };
        let arm64 = Platform { os: "linux".into(), architecture: "arm64".into(), variant: "v8".into() };
        let table = [
            (&amd64, vec![("linux", "arm64", "v8"), ("linux", "amd64", "")], Some(1)),
            (&amd64, vec![("linux", "amd64", "v3"), ("linux", "amd64", "")], Some(1)),
            (&amd64, vec![("linux", "amd64", "v3")], None),
            (&amd64, vec![("windows", "amd64", ""), ("unknown", "unknown", "")], None),
            (&amd64, vec![("windows", "amd64", ""), ("", "", "")], Some(1)),
            (&arm, vec![("linux", "arm", "v5"), ("linux", "arm", "v7"), ("linux", "arm", "v6")], Some(1)),
            (&arm, vec![("linux", "arm", "v5"), ("linux", "arm", "v6")], Some(1)),
            (&arm64, vec![("linux", "arm64", "")], Some(0)),
            (&amd64, vec![], None),
        ];
        for (wanted, offered, choice) in table {
            let index = index(&offered);
            assert_eq!(choose("x", &index, wanted).ok().map(|d| d.size), choice, "{wanted} of {offered:?}");
        }
    }
}
