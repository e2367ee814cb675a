//! A histogram with buckets of equal relative width, written by one thread and read by any.
//!
//! ```text
//!   values 0 to 7: a bucket each; then eight buckets per power of two:
//!   8 9 10 11 12 13 14 15 | 16 18 20 22 24 26 28 30 | 32 36 ...     (the least value of each)
//! ```
//!
//! A value is known to within an eighth. 496 buckets hold every `u64`, in 4 KiB.

use super::Count;

const SUB_BUCKETS: u32 = 8;
const SUB_BITS: u32 = SUB_BUCKETS.trailing_zeros();
const BUCKETS: usize = ((u64::BITS - SUB_BITS + 1) * SUB_BUCKETS) as usize;

/// See the module's documentation.
#[derive(Debug)]
pub struct Histogram {
    buckets: Box<[Count; BUCKETS]>,
    sum: Count,
    largest: Count,
    /// The last value or mean.
    usual: Count,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: Box::new([const { Count::new() }; BUCKETS]),
            sum: Count::default(),
            largest: Count::default(),
            usual: Count::default(),
        }
    }
}

impl Histogram {
    /// A value; only for the thread that writes.
    #[inline]
    pub fn record(&self, value: u64) {
        self.record_alike(value, 1, value);
    }

    /// So many values, at least one, of which only the sum is known; only for the thread that writes.
    ///
    /// They count with their mean. If that is more than twice the one before, one of them stands out: the others count as
    /// those before.
    #[inline]
    pub fn record_together(&self, sum: u64, values: u32) {
        // Mostly it is one, and a division takes as long as all the rest.
        if values == 1 {
            return self.record(sum);
        }
        let (mean, usual) = (sum / u64::from(values), self.usual.get());
        if usual > 0 && mean / 2 > usual {
            let others = values - 1;
            let of_the_others = usual * u64::from(others);
            self.record_alike(usual, others, of_the_others);
            self.record(sum - of_the_others);
            self.usual.set(mean);
        } else {
            self.record_alike(mean, values, sum);
        }
    }

    #[inline]
    fn record_alike(&self, each: u64, values: u32, sum: u64) {
        self.buckets[bucket(each)].add(values.into());
        self.sum.add(sum);
        self.usual.set(each);
        if each > self.largest.get() {
            self.largest.set(each);
        }
    }

    /// How many values there are.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(Count::get).sum()
    }

    /// The sum of all values.
    pub fn sum(&self) -> u64 {
        self.sum.get()
    }

    pub fn largest(&self) -> u64 {
        self.largest.get()
    }

    /// The buckets that are not empty: their least value, the least value of the next, and how many they hold.
    pub fn filled(&self) -> impl Iterator<Item = (u64, u64, u64)> + '_ {
        self.buckets.iter().enumerate().filter_map(|(index, count)| {
            let count = count.get();
            (count > 0).then(|| (lower_bound(index), upper_bound(index), count))
        })
    }
}

/// Without a branch: a value below 8 has the shift of those from 8 to 15, and lacks their leading bit.
#[inline]
fn bucket(value: u64) -> usize {
    let shift = (value | u64::from(SUB_BUCKETS)).ilog2() - SUB_BITS;
    ((shift * SUB_BUCKETS) as u64 + (value >> shift)) as usize
}

fn lower_bound(index: usize) -> u64 {
    let index = index as u64;
    let sub_buckets = u64::from(SUB_BUCKETS);
    if index < sub_buckets {
        return index;
    }
    let shift = index / sub_buckets - 1;
    (sub_buckets + index % sub_buckets) << shift
}

fn upper_bound(index: usize) -> u64 {
    if index + 1 < BUCKETS {
        lower_bound(index + 1)
    } else {
        u64::MAX
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_value_falls_into_the_bucket_that_contains_it(value: u64) {
            let index = bucket(value);
            prop_assert!(lower_bound(index) <= value);
            prop_assert!(value < upper_bound(index) || value == u64::MAX);
        }

        #[test]
        fn a_bucket_is_at_most_an_eighth_wide(value in 8..u64::MAX / 2) {
            let index = bucket(value);
            prop_assert!(upper_bound(index) - lower_bound(index) <= lower_bound(index) / 8);
        }
    }

    #[test]
    fn the_extremes_have_buckets() {
        assert_eq!(bucket(0), 0);
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn it_counts_sums_and_keeps_the_largest() {
        let histogram = Histogram::default();
        histogram.record_together(11, 2);
        histogram.record(1000);
        assert_eq!(histogram.filled().collect::<Vec<_>>(), [(5, 6, 2), (960, 1024, 1)]);
        assert_eq!((histogram.count(), histogram.sum(), histogram.largest()), (3, 1011, 1000));
    }

    #[test]
    fn one_that_stands_out_of_a_group_is_not_averaged_away() {
        let histogram = Histogram::default();
        histogram.record_together(160, 16);
        histogram.record_together(15 * 10 + 5000, 16);
        assert_eq!(histogram.filled().collect::<Vec<_>>(), [(10, 11, 31), (4608, 5120, 1)]);
        assert_eq!((histogram.sum(), histogram.largest()), (5310, 5000));
    }

    #[test]
    fn a_group_that_is_longer_as_a_whole_counts_with_its_mean_from_the_second_on() {
        let histogram = Histogram::default();
        for each in [10, 100, 100] {
            histogram.record_together(16 * each, 16);
        }
        assert_eq!(histogram.filled().collect::<Vec<_>>(), [(10, 11, 31), (96, 104, 16), (1408, 1536, 1)]);
    }
}
