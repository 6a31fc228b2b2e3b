//! How many seats each level has: nominally, and now.

/// A level's part of the seats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shares {
    /// Its nominal part, relative to that of the others.
    pub nominal: u32,
    /// Percent of the nominal seats that others may use while it does not.
    pub lendable_percent: u32,
    /// Percent of the nominal seats that it may borrow at most; no bound when absent.
    pub borrowing_percent: Option<u32>,
}

/// A level's seats: never fewer than `least`, never more than `most`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// What it cannot lend.
    pub least: u32,
    /// What it has when all are busy.
    pub nominal: u32,
    /// What it has with all that it may borrow.
    pub most: u32,
}

/// The bounds of levels that share `total` seats.
pub fn bounds(total: u32, shares: &[Shares]) -> Vec<Bounds> {
    let all: u64 = shares.iter().map(|s| u64::from(s.nominal)).sum();
    let part =
        |of: u32, percent: u32| u32::try_from((u64::from(of) * u64::from(percent) + 50) / 100).unwrap_or(u32::MAX);
    let of = |s: &Shares| {
        let nominal = (u64::from(total) * u64::from(s.nominal)).div_ceil(all.max(1));
        let nominal = u32::try_from(nominal).unwrap_or(u32::MAX);
        let most = s.borrowing_percent.map_or(total.max(nominal), |p| nominal.saturating_add(part(nominal, p)));
        Bounds { least: nominal - part(nominal, s.lendable_percent.min(100)), nominal, most }
    };
    shares.iter().map(of).collect()
}

/// How many seats each level gets that wants so many: all that it wants while there are enough; otherwise a part of what
/// it wants that is fair by what is nominally its own.
pub(crate) fn allocate(total: u32, levels: &[(Bounds, u32)]) -> Vec<u32> {
    let wanted: Vec<u32> = levels.iter().map(|(b, demand)| (*demand).clamp(b.least, b.most.max(b.least))).collect();
    let sum: u64 = wanted.iter().copied().map(u64::from).sum();
    let total = u64::from(total).max(levels.iter().map(|(b, _)| u64::from(b.least)).sum());
    if sum <= total {
        // What nobody wants goes back to whose it is.
        let lacking = |(w, (b, _)): (&u32, &(Bounds, u32))| u64::from(b.nominal.saturating_sub(*w));
        let lack: u64 = wanted.iter().zip(levels).map(lacking).sum();
        let left = (total - sum).min(lack);
        let more = |pair| u32::try_from((lacking(pair) * left).checked_div(lack).unwrap_or(0)).unwrap_or(u32::MAX);
        return wanted.iter().zip(levels).map(|(w, level)| w + more((w, level))).collect();
    }
    // The largest fraction of everybody's nominal seats with which the seats suffice.
    let at = |fraction: f64| -> Vec<u32> {
        let of = |(w, (b, _)): (&u32, &(Bounds, u32))| ((f64::from(b.nominal) * fraction) as u32).clamp(b.least, *w);
        wanted.iter().zip(levels).map(of).collect()
    };
    let (mut low, mut high) = (0.0, f64::from(u32::try_from(total).unwrap_or(u32::MAX)));
    for _ in 0..48 {
        let middle = (low + high) / 2.0;
        let needed: u64 = at(middle).into_iter().map(u64::from).sum();
        if needed <= total { low = middle } else { high = middle }
    }
    at(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(nominal: u32, lendable_percent: u32) -> Shares {
        Shares { nominal, lendable_percent, borrowing_percent: None }
    }

    #[test]
    fn seats_are_shared_by_nominal_parts() {
        let b = bounds(100, &[shares(30, 50), shares(10, 0), Shares { borrowing_percent: Some(20), ..shares(10, 0) }]);
        assert_eq!(b[0], Bounds { least: 30, nominal: 60, most: 100 });
        assert_eq!(b[1], Bounds { least: 20, nominal: 20, most: 100 });
        assert_eq!(b[2].most, 24);
    }

    #[test]
    fn idle_levels_have_what_is_theirs_and_lend_the_rest() {
        let b = bounds(100, &[shares(60, 50), shares(40, 0)]);
        let with = |d0: u32, d1: u32| allocate(100, &[(b[0], d0), (b[1], d1)]);
        assert_eq!(with(0, 0), [60, 40]);
        assert_eq!(with(0, 65), [35, 65]);
        assert_eq!(with(0, 500), [30, 70]);
        assert_eq!(with(100, 100), [60, 40]);
        assert_eq!(with(90, 0), [60, 40], "the other lends nothing");
    }

    #[test]
    fn what_is_given_out_is_never_more_than_there_is() {
        let b = bounds(100, &[shares(1, 90), shares(2, 50), shares(3, 0), shares(4, 33)]);
        for demands in [[0, 0, 0, 0], [9, 99, 1, 3], [1000, 1000, 1000, 1000], [50, 0, 0, 70]] {
            let levels: Vec<_> = b.iter().copied().zip(demands).collect();
            let given = allocate(100, &levels);
            assert!(given.iter().sum::<u32>() <= 101, "{demands:?}: {given:?}");
            assert!(given.iter().zip(&b).all(|(g, b)| *g >= b.least && *g <= b.most), "{given:?}");
        }
    }
}
