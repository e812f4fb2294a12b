//! How many items go into the next task of a job.
//!
//! With a size given by the user, always that many. Otherwise guided by measurement: the first tasks are of one
//! item, and while items turn out to be short, tasks grow until they take about [`TARGET`]; toward the end they
//! shrink again, so that no worker is left with a long task while the others have nothing (guided
//! self-scheduling: Polychronopoulos and Kuck, 1987).

use std::ops::Range;
use std::time::Duration;

/// How long a task should run: long against the microseconds its way costs, and short enough that pickling, the workers
/// and unpickling overlap, in memory that is still in the processor's caches.
const TARGET: Duration = Duration::from_micros(500);
/// Toward the end tasks shrink to this and no further: below it, their way costs more than the balance gains.
const LEAST: Duration = Duration::from_micros(100);
/// A task is at most so many times larger than the one before: one short item says little about the next.
const GROWTH: usize = 64;

/// The plan of one job.
#[derive(Clone, Debug)]
pub struct ChunkPlan {
    total: usize,
    next: usize,
    fixed: Option<usize>,
    workers: usize,
    size: usize,
    least: usize,
}

impl ChunkPlan {
    /// A plan for `total` items and so many workers.
    #[must_use]
    pub fn new(total: usize, workers: usize, fixed: Option<usize>) -> Self {
        Self {
            total,
            next: 0,
            fixed: fixed.map(|size| size.max(1)),
            workers: workers.max(1),
            size: 1,
            least: 1,
        }
    }

    /// The items of the next task; `None` when all are given out.
    pub fn next_chunk(&mut self) -> Option<Range<usize>> {
        let left = self.total - self.next;
        if left == 0 {
            return None;
        }
        let share = left.div_ceil(2 * self.workers);
        let size = self.fixed.unwrap_or_else(|| self.size.min(share.max(self.least))).min(left);
        let start = self.next;
        self.next += size;
        Some(start..self.next)
    }

    /// Gives out no more items.
    pub fn skip_rest(&mut self) {
        self.next = self.total;
    }

    /// Whether every item is given out.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.next == self.total
    }

    /// Whether sizes follow what is measured: then only a few tasks should be given out ahead.
    #[must_use]
    pub fn is_guided(&self) -> bool {
        self.fixed.is_none()
    }

    /// A task of `items` items has run for so long.
    pub fn learn(&mut self, items: usize, ran: Duration) {
        let per_item = ran.as_nanos() / items.max(1) as u128;
        let items_in =
            |time: Duration| usize::try_from(time.as_nanos() / per_item.max(1)).unwrap_or(usize::MAX).max(1);
        self.least = items_in(LEAST);
        self.size = items_in(TARGET).min(self.size.max(items).saturating_mul(GROWTH));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(plan: &mut ChunkPlan, per_item: Duration) -> Vec<usize> {
        let mut sizes = Vec::new();
        let mut expected = 0;
        while let Some(chunk) = plan.next_chunk() {
            assert_eq!(chunk.start, expected, "no item is left out or given twice");
            expected = chunk.end;
            sizes.push(chunk.len());
            plan.learn(chunk.len(), per_item * u32::try_from(chunk.len()).unwrap_or(u32::MAX));
        }
        assert_eq!(expected, plan.total);
        sizes
    }

    #[test]
    fn a_given_size_holds_and_the_last_chunk_takes_the_rest() {
        assert_eq!(drain(&mut ChunkPlan::new(10, 4, Some(4)), Duration::ZERO), [4, 4, 2]);
        assert!(drain(&mut ChunkPlan::new(0, 4, Some(4)), Duration::ZERO).is_empty());
    }

    #[test]
    fn short_items_travel_in_large_chunks_that_shrink_toward_the_end() {
        let sizes = drain(&mut ChunkPlan::new(100_000, 2, None), Duration::from_nanos(100));
        assert!(sizes.len() < 40, "{} chunks", sizes.len());
        assert_eq!(sizes[0], 1);
        let largest = sizes.iter().max().copied().unwrap_or(0);
        assert!(sizes[sizes.len() - 2] < largest / 4, "{sizes:?}");
    }

    #[test]
    fn long_items_travel_alone() {
        let sizes = drain(&mut ChunkPlan::new(50, 4, None), Duration::from_millis(30));
        assert!(sizes.iter().all(|&size| size == 1));
    }
}
