//! The timer heap: a 4-ary heap of plain integers, and the payloads beside it.
//!
//! ```text
//!   heap   [ (deadline, sequence, slot) ... ]     smallest first
//!   slots  [ sequence + payload | free ... ]      a heap entry is stale if the sequences differ
//! ```
//!
//! Cancelling takes the payload out at once and leaves the integers; when more than half of them are
//! stale they are swept out, so memory stays flat under schedule-and-cancel. Four children per node
//! make the heap half as deep as a binary one, and they share a cache line or two.

use std::num::NonZeroU64;

/// Where a timer is, until it fires or is cancelled: its slot, plus one, and above it the low half of its sequence.
///
/// Afterwards the key matches nothing, until the slot is given out for the timer that comes exactly 2^32 ones later.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimerKey(NonZeroU64);

impl TimerKey {
    fn new(slot: u32, sequence: u64) -> Self {
        let bits = sequence << u32::BITS | (u64::from(slot) + 1);
        Self(NonZeroU64::new(bits).expect("the lower half is not zero"))
    }

    const fn slot(self) -> u32 {
        (self.0.get() as u32).wrapping_sub(1)
    }

    const fn matches(self, sequence: u64) -> bool {
        (self.0.get() >> u32::BITS) as u32 == sequence as u32
    }

    /// The key in a word, which is not zero.
    pub const fn to_bits(self) -> u64 {
        self.0.get()
    }

    /// The key that `to_bits` made a word of; none of zero.
    pub fn from_bits(bits: u64) -> Option<Self> {
        NonZeroU64::new(bits).map(Self)
    }
}

#[derive(Clone, Copy)]
struct Entry {
    deadline_ns: u64,
    sequence: u64,
    slot: u32,
}

impl Entry {
    fn order(&self) -> (u64, u64) {
        (self.deadline_ns, self.sequence)
    }
}

struct Slot<T> {
    sequence: u64,
    payload: Option<T>,
}

/// Children of a node.
const ARITY: usize = 4;
/// Below this many entries sweeping is not worth it.
const SWEEP_FROM: usize = 64;
/// How many timers that are due are taken out one by one: so many, and one in so many of all.
const DUE_ONE_BY_ONE: usize = 16;
const DUE_PART: usize = 16;
/// A heap that has had more timers at once than this gives its memory back when it is empty.
const KEPT_SLOTS: usize = 4096;

/// See the module's documentation.
pub struct TimerHeap<T> {
    heap: Vec<Entry>,
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    next_sequence: u64,
    live: usize,
}

impl<T> Default for TimerHeap<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> TimerHeap<T> {
    pub const fn new() -> Self {
        Self { heap: Vec::new(), slots: Vec::new(), free: Vec::new(), next_sequence: 1, live: 0 }
    }

    /// Adds a timer; among equal deadlines the first one in is the first one out.
    ///
    /// # Panics
    /// With 2^32 - 1 timers at once.
    pub fn insert(&mut self, deadline_ns: u64, payload: T) -> TimerKey {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.slots.push(Slot { sequence: 0, payload: None });
                let count = u32::try_from(self.slots.len()).expect("fewer timers than 32 bits can count");
                count - 1
            }
        };
        self.slots[slot as usize] = Slot { sequence, payload: Some(payload) };
        self.live += 1;
        self.heap.push(Entry { deadline_ns, sequence, slot });
        self.sift_up(self.heap.len() - 1);
        TimerKey::new(slot, sequence)
    }

    /// Takes a timer out; `None` if it fired or was cancelled before.
    pub fn cancel(&mut self, key: TimerKey) -> Option<T> {
        let payload = self.take(key.slot(), |sequence| key.matches(sequence))?;
        if self.heap.len() > SWEEP_FROM && self.live * 2 < self.heap.len() {
            self.sweep();
        }
        Some(payload)
    }

    /// The earliest deadline.
    pub fn next_deadline(&mut self) -> Option<u64> {
        while let Some(entry) = self.heap.first() {
            if self.is_live(entry) {
                return Some(entry.deadline_ns);
            }
            self.pop_entry();
        }
        None
    }

    /// Takes all timers that are due and hands them to `each`, with their deadlines, in order.
    ///
    /// While there are few, one by one, in O(log n). When they have turned out to be a good part of the heap, the rest of
    /// them are sorted and what is not due becomes the heap, in O(n).
    pub fn take_due(&mut self, now_ns: u64, mut each: impl FnMut(u64, T)) {
        for _ in 0..DUE_ONE_BY_ONE + self.heap.len() / DUE_PART {
            match self.pop_due(now_ns) {
                Some((deadline_ns, payload)) => each(deadline_ns, payload),
                None => return,
            }
        }
        let (mut due, rest): (Vec<Entry>, Vec<Entry>) =
            std::mem::take(&mut self.heap).into_iter().partition(|entry| entry.deadline_ns <= now_ns);
        self.heap = rest;
        self.restore();
        due.sort_unstable_by_key(Entry::order);
        for Entry { deadline_ns, slot, sequence } in due {
            if let Some(payload) = self.take(slot, |other| other == sequence) {
                each(deadline_ns, payload);
            }
        }
    }

    /// The earliest timer, with its deadline, if it is due.
    pub fn pop_due(&mut self, now_ns: u64) -> Option<(u64, T)> {
        if self.next_deadline()? > now_ns {
            return None;
        }
        let Entry { deadline_ns, slot, sequence } = self.pop_entry()?;
        let payload = self.take(slot, |other| other == sequence)?;
        Some((deadline_ns, payload))
    }

    /// How many timers are neither fired nor cancelled.
    pub fn len(&self) -> usize {
        self.live
    }

    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// What `iter_since` has to be given to find the timers from now on.
    pub fn mark(&self) -> u64 {
        self.next_sequence
    }

    /// The payloads of the timers since a mark, in no order.
    pub fn iter_since(&self, mark: u64) -> impl Iterator<Item = &T> {
        self.slots.iter().filter(move |slot| slot.sequence >= mark).filter_map(|slot| slot.payload.as_ref())
    }

    /// The payloads, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().filter_map(|slot| slot.payload.as_ref())
    }

    /// Takes all timers out.
    pub fn clear(&mut self) -> Vec<T> {
        self.heap = Vec::new();
        self.free = Vec::new();
        self.live = 0;
        std::mem::take(&mut self.slots).into_iter().filter_map(|slot| slot.payload).collect()
    }

    fn is_live(&self, entry: &Entry) -> bool {
        self.slots
            .get(entry.slot as usize)
            .is_some_and(|slot| slot.sequence == entry.sequence && slot.payload.is_some())
    }

    fn take(&mut self, slot: u32, is_meant: impl FnOnce(u64) -> bool) -> Option<T> {
        let place = self.slots.get_mut(slot as usize).filter(|place| is_meant(place.sequence))?;
        let payload = place.payload.take()?;
        self.free.push(slot);
        self.live -= 1;
        if self.live == 0 && self.slots.len() > KEPT_SLOTS {
            // After a burst of timers nothing of it is kept. What is left in the heap is stale.
            (self.heap, self.slots, self.free) = (Vec::new(), Vec::new(), Vec::new());
        }
        Some(payload)
    }

    /// Drops the stale entries and restores the heap.
    fn sweep(&mut self) {
        let mut heap = std::mem::take(&mut self.heap);
        heap.retain(|entry| self.is_live(entry));
        heap.shrink_to(heap.len().max(SWEEP_FROM) * 2);
        self.heap = heap;
        self.restore();
    }

    /// Makes a heap of entries in any order.
    fn restore(&mut self) {
        if self.heap.len() > 1 {
            for index in (0..=(self.heap.len() - 2) / ARITY).rev() {
                self.sift_down(index);
            }
        }
    }

    fn pop_entry(&mut self) -> Option<Entry> {
        if self.heap.is_empty() {
            return None;
        }
        let entry = self.heap.swap_remove(0);
        if !self.heap.is_empty() {
            self.sift_down(0);
        }
        Some(entry)
    }

    fn sift_up(&mut self, mut index: usize) {
        let entry = self.heap[index];
        while index > 0 {
            let parent = (index - 1) / ARITY;
            if self.heap[parent].order() <= entry.order() {
                break;
            }
            self.heap[index] = self.heap[parent];
            index = parent;
        }
        self.heap[index] = entry;
    }

    fn sift_down(&mut self, mut index: usize) {
        let entry = self.heap[index];
        loop {
            let first = index * ARITY + 1;
            let last = (first + ARITY).min(self.heap.len());
            let Some(child) = (first..last).min_by_key(|&child| self.heap[child].order()) else { break };
            if self.heap[child].order() >= entry.order() {
                break;
            }
            self.heap[index] = self.heap[child];
            index = child;
        }
        self.heap[index] = entry;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a test does to a heap.
    #[derive(Debug, Clone)]
    enum Step {
        Insert(u64),
        /// Cancels the timer that was inserted as the n-th (modulo how many there are), fired or not.
        Cancel(usize),
        /// Cancels every timer but each n-th: more than half of a large heap, which is then swept.
        CancelMost(usize),
        Advance(u64),
        /// The same, with all that are due at once.
        AdvanceAtOnce(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => (0..50u64).prop_map(Step::Insert),
            3 => any::<usize>().prop_map(Step::Cancel),
            1 => (2..10usize).prop_map(Step::CancelMost),
            1 => (0..20u64).prop_map(Step::Advance),
            1 => (0..20u64).prop_map(Step::AdvanceAtOnce),
        ]
    }

    proptest! {
        /// The heap behaves as a sorted list of (deadline, order of insertion).
        #[test]
        fn a_heap_is_a_sorted_list(before in prop::collection::vec(0..1000u64, 0..300),
                                   steps in prop::collection::vec(step(), 0..400)) {
            let mut heap = TimerHeap::new();
            let mut model: Vec<(u64, usize)> = Vec::new();
            let mut keys = Vec::new();
            let mut now = 0;
            let steps = before.into_iter().map(Step::Insert).chain(steps);
            for step in steps {
                match step {
                    Step::Insert(delay) => {
                        keys.push(heap.insert(now + delay, keys.len()));
                        model.push((now + delay, keys.len() - 1));
                        model.sort_unstable();
                    }
                    Step::Cancel(index) if !keys.is_empty() => {
                        let id = index % keys.len();
                        let known = model.iter().position(|&(_, other)| other == id);
                        prop_assert_eq!(heap.cancel(keys[id]), known.map(|_| id));
                        if let Some(position) = known {
                            model.remove(position);
                        }
                    }
                    Step::Cancel(_) => {}
                    Step::CancelMost(kept) => {
                        let before = heap.len();
                        for (id, &key) in keys.iter().enumerate().filter(|(id, _)| id % kept != 0) {
                            let known = model.iter().position(|&(_, other)| other == id);
                            prop_assert_eq!(heap.cancel(key), known.map(|position| model.remove(position).1));
                        }
                        // Timers that fire leave the stale ones of the others alone; the next that is cancelled does not.
                        let swept = heap.heap.len() <= SWEEP_FROM.max(heap.len() * 2);
                        prop_assert!(swept || heap.len() == before);
                    }
                    Step::Advance(by) => {
                        now += by;
                        while let Some(due) = heap.pop_due(now) {
                            prop_assert_eq!(due, model.remove(0));
                        }
                        prop_assert!(model.first().is_none_or(|&(deadline, _)| deadline > now));
                    }
                    Step::AdvanceAtOnce(by) => {
                        now += by;
                        let mut due = Vec::new();
                        heap.take_due(now, |deadline, id| due.push((deadline, id)));
                        let later = model.partition_point(|&(deadline, _)| deadline <= now);
                        let expected: Vec<(u64, usize)> = model.drain(..later).collect();
                        prop_assert_eq!(due, expected);
                    }
                }
                prop_assert_eq!(heap.len(), model.len());
                prop_assert_eq!(heap.next_deadline(), model.first().map(|&(deadline, _)| deadline));
            }
            let mut left = heap.clear();
            left.sort_unstable();
            let mut expected: Vec<usize> = model.iter().map(|&(_, id)| id).collect();
            expected.sort_unstable();
            prop_assert_eq!(left, expected);
            prop_assert!(heap.is_empty());
        }
    }

    #[test]
    fn memory_stays_flat_when_timers_are_set_and_cancelled() {
        let mut heap = TimerHeap::new();
        let kept: Vec<TimerKey> = (0..100).map(|index| heap.insert(index, index)).collect();
        for round in 0..600_000u64 {
            let key = heap.insert(1_000_000 + round, round);
            assert_eq!(heap.cancel(key), Some(round));
        }
        assert!(heap.heap.capacity() < 2000, "{}", heap.heap.capacity());
        assert!(heap.slots.len() < 200);
        assert_eq!(heap.len(), kept.len());
    }

    #[test]
    fn a_burst_of_timers_leaves_no_memory_behind() {
        let mut heap = TimerHeap::new();
        let keys: Vec<TimerKey> = (0..100_000).map(|index| heap.insert(index, index)).collect();
        for &key in &keys[..99_999] {
            heap.cancel(key);
        }
        assert_eq!(heap.pop_due(u64::MAX).map(|(_, payload)| payload), Some(99_999));
        assert!(heap.slots.capacity() + heap.heap.capacity() + heap.free.capacity() <= KEPT_SLOTS);
        assert_eq!(heap.cancel(keys[5]), None);
        heap.insert(1, 7);
        assert_eq!(heap.pop_due(1), Some((1, 7)));
    }

    #[test]
    fn a_key_never_matches_the_next_timer_in_its_slot() {
        let mut heap = TimerHeap::new();
        let first = heap.insert(1, "first");
        assert_eq!(heap.cancel(first), Some("first"));
        let second = heap.insert(1, "second");
        assert_eq!(heap.cancel(first), None);
        assert_eq!(heap.pop_due(1), Some((1, "second")));
        assert_eq!(heap.cancel(second), None);
    }
}
