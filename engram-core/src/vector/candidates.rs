//! The rows that a coarse distance leaves in question.

/// Collects the nearest rows by a whole-numbered distance: at least as many as are wanted, if so many are offered, and
/// with the furthest of them all that are as far. So no tie is decided here, where the distance is coarse: a thousand
/// copies of one text are all compared exactly.
pub(super) struct Candidates {
    wanted: usize,
    /// What is further than this is out.
    floor: u32,
    /// How many there are at each distance up to the floor.
    counts: Vec<usize>,
    /// How many there are up to the floor.
    count: usize,
    /// Some of them beyond the floor by now.
    rows: Vec<(u32, u32)>,
}

impl Candidates {
    /// Room for distances up to `furthest`; `wanted` is at least 1.
    pub(super) fn new(wanted: usize, furthest: usize) -> Self {
        let floor = u32::try_from(furthest).unwrap_or(u32::MAX);
        Self { wanted, floor, counts: vec![0; furthest + 1], count: 0, rows: Vec::new() }
    }

    /// What is further cannot enter: one comparison, to be made before anything of the row is looked at.
    #[inline]
    pub(super) fn floor(&self) -> u32 {
        self.floor
    }

    /// Takes a row in that is not beyond the floor.
    pub(super) fn push(&mut self, distance: u32, row: u32) {
        self.rows.push((distance, row));
        self.counts[distance as usize] += 1;
        self.count += 1;
        while self.count - self.counts[self.floor as usize] >= self.wanted {
            self.count -= self.counts[self.floor as usize];
            self.floor -= 1;
        }
        if self.rows.len() > 2 * self.count + self.wanted {
            self.rows.retain(|(distance, _)| *distance <= self.floor);
        }
    }

    /// The rows, in no order.
    pub(super) fn into_rows(self) -> Vec<u32> {
        let floor = self.floor;
        self.rows.into_iter().filter(|(distance, _)| *distance <= floor).map(|(_, row)| row).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_nearest_are_there_and_whoever_is_as_far_as_the_last_of_them(
            distances in prop::collection::vec(0_u32..20, 0..400),
            wanted in 1_usize..50,
        ) {
            let mut candidates = Candidates::new(wanted, 19);
            for (distance, row) in distances.iter().zip(0..) {
                if *distance <= candidates.floor() {
                    candidates.push(*distance, row);
                }
                prop_assert!(candidates.rows.len() <= 2 * candidates.count + wanted);
            }
            let mut sorted = distances.clone();
            sorted.sort_unstable();
            let furthest = sorted.get(wanted - 1).copied().unwrap_or(19);
            let expected = distances.iter().zip(0_u32..).filter(|(distance, _)| **distance <= furthest);
            let mut rows = candidates.into_rows();
            rows.sort_unstable();
            prop_assert_eq!(rows, expected.map(|(_, row)| row).collect::<Vec<_>>());
        }
    }
}
