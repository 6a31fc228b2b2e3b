use std::time::Duration;

/// So many buckets for each doubling: a time is known to within an eighth of it.
const PARTS: u32 = 8;
const BITS: u32 = PARTS.ilog2();
/// Up to some three days, in microseconds.
const BUCKETS: usize = (38 * PARTS) as usize;

/// How often something took how long.
#[derive(Clone, Debug)]
pub struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    most: Duration,
}

/// One row of a histogram: so many took no longer than this, and longer than the row before says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// No longer than this.
    pub up_to: Duration,
    /// So many.
    pub count: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: Vec::new(), count: 0, most: Duration::ZERO }
    }
}

fn bucket(micros: u64) -> usize {
    let doublings = micros.max(1).ilog2();
    let index = if doublings < BITS {
        micros
    } else {
        // The highest bit says which doubling, the next ones which part of it.
        u64::from((doublings - BITS + 1) * PARTS) + ((micros >> (doublings - BITS)) & u64::from(PARTS - 1))
    };
    usize::try_from(index).unwrap_or(usize::MAX).min(BUCKETS - 1)
}

/// The longest time in a bucket.
fn bound(bucket: usize) -> Duration {
    let (doubling, part) = (bucket as u64 / u64::from(PARTS), bucket as u64 % u64::from(PARTS));
    let micros = match doubling.checked_sub(1) {
        None => part,
        Some(shift) => ((u64::from(PARTS) + part + 1) << shift) - 1,
    };
    Duration::from_micros(micros)
}

impl Histogram {
    /// It took so long, once more.
    pub fn add(&mut self, took: Duration) {
        let at = bucket(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        if self.buckets.len() <= at {
            self.buckets.resize(at + 1, 0);
        }
        if let Some(bucket) = self.buckets.get_mut(at) {
            *bucket += 1;
        }
        self.count += 1;
        self.most = self.most.max(took);
    }

    /// How often in all.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The longest time.
    pub fn most(&self) -> Duration {
        self.most
    }

    /// The time that so many percent did not exceed, to within an eighth of it; `None` when there was nothing.
    pub fn percentile(&self, percent: f64) -> Option<Duration> {
        let wanted = ((self.count as f64) * percent / 100.0).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (at, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return Some(bound(at).min(self.most));
            }
        }
        None
    }

    /// The whole in rows that double.
    pub fn rows(&self) -> Vec<Row> {
        let parts = self.buckets.chunks(PARTS as usize).enumerate();
        let rows = parts.map(|(at, part)| {
            let up_to = bound((at + 1) * PARTS as usize - 1);
            Row { up_to, count: part.iter().sum() }
        });
        let rows: Vec<Row> = rows.skip_while(|row| row.count == 0).collect();
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_hold_what_is_up_to_their_bound_and_follow_each_other() {
        for at in 0..BUCKETS - 1 {
            let (bound, next) = (bound(at).as_micros() as u64, bound(at + 1).as_micros() as u64);
            assert!(next > bound, "{at}");
            assert_eq!((bucket(bound), bucket(bound + 1)), (at, at + 1), "{at}: {bound} µs");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn percentiles_are_within_an_eighth() {
        let mut times = Histogram::default();
        assert_eq!(times.percentile(50.0), None);
        (1..=1000).for_each(|millis| times.add(Duration::from_millis(millis)));
        for (percent, want) in [(50.0, 500.0), (90.0, 900.0), (99.0, 990.0)] {
            let got = times.percentile(percent).unwrap().as_secs_f64() * 1000.0;
            assert!(got >= want && got <= want * 1.13, "{percent}: {got}");
        }
        assert_eq!(times.percentile(100.0), Some(Duration::from_secs(1)), "never more than the longest");
        assert_eq!((times.count(), times.most()), (1000, Duration::from_secs(1)));
    }

    #[test]
    fn rows_hold_all() {
        let mut times = Histogram::default();
        [3, 100, 110, 5000].into_iter().for_each(|millis| times.add(Duration::from_millis(millis)));
        let rows = times.rows();
        assert_eq!(rows.iter().map(|row| row.count).sum::<u64>(), 4);
        assert_eq!(rows.first().unwrap().count, 1);
        assert!(rows.windows(2).all(|pair| pair[0].up_to < pair[1].up_to));
    }
}
