/// Below this many nodes all of them are looked at.
const ALWAYS_ALL: usize = 100;

/// How many fitting nodes are enough to choose from: all of a small cluster, else the given share in percent, or with 0
/// one that falls from 50 % to 5 % as the cluster grows (upstream's percentageOfNodesToScore).
pub fn enough(nodes: usize, percentage: u32) -> usize {
    if nodes < ALWAYS_ALL {
        return nodes;
    }
    let percent = match percentage as usize {
        0 => 50_usize.saturating_sub(nodes / 125).max(5),
        given => given,
    };
    if percent >= 100 { nodes } else { (nodes * percent / 100).max(ALWAYS_ALL) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_clusters_are_looked_at_in_part() {
        assert_eq!(enough(50, 0), 50);
        assert_eq!(enough(1_000, 0), 420);
        assert_eq!(enough(5_000, 0), 500);
        assert_eq!(enough(20_000, 0), 1_000);
        assert_eq!(enough(1_000, 5), 100);
        assert_eq!(enough(1_000, 30), 300);
        assert_eq!(enough(1_000, 100), 1_000);
    }
}
