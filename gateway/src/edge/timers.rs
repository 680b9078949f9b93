//! When each connection next needs attention: a binary heap that knows where each connection stands in it, so that a
//! connection has at most one entry however often its deadline moves.
//!
//! Moving a deadline *later* is lazy: the entry stays, fires early and is set again. QUIC's timers move later with every
//! packet, and this makes that free.

use std::time::Instant;

const ABSENT: u32 = u32::MAX;

/// Deadlines by connection index.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: Vec<(Instant, u32)>,
    /// Position in `heap` by connection index; [`ABSENT`] for those without a deadline.
    position: Vec<u32>,
}

impl Timers {
    /// Makes sure that `index` comes up no later than `at`.
    pub(crate) fn arm(&mut self, index: u32, at: Instant) {
        if self.position.len() <= index as usize {
            self.position.resize(index as usize + 1, ABSENT);
        }
        match self.position[index as usize] {
            ABSENT => {
                self.position[index as usize] = self.heap.len() as u32;
                self.heap.push((at, index));
                self.rise(self.heap.len() - 1);
            }
            place => {
                let place = place as usize;
                if at < self.heap[place].0 {
                    self.heap[place].0 = at;
                    self.rise(place);
                }
            }
        }
    }

    /// Forgets `index`.
    pub(crate) fn remove(&mut self, index: u32) {
        let Some(&place) = self.position.get(index as usize) else { return };
        if place != ABSENT {
            self.take(place as usize);
        }
    }

    /// Takes one whose deadline has come, if any.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<u32> {
        let &(at, _) = self.heap.first()?;
        (at <= now).then(|| self.take(0))
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.heap.first().map(|&(at, _)| at)
    }

    fn take(&mut self, place: usize) -> u32 {
        let (_, index) = self.heap.swap_remove(place);
        self.position[index as usize] = ABSENT;
        if place < self.heap.len() {
            self.position[self.heap[place].1 as usize] = place as u32;
            self.rise(place);
            self.sink(place);
        }
        index
    }

    fn rise(&mut self, mut place: usize) {
        while place > 0 {
            let parent = (place - 1) / 2;
            if self.heap[parent].0 <= self.heap[place].0 {
                break;
            }
            self.swap(parent, place);
            place = parent;
        }
    }

    fn sink(&mut self, mut place: usize) {
        loop {
            let (left, right) = (2 * place + 1, 2 * place + 2);
            let Some(&(left_at, _)) = self.heap.get(left) else { break };
            let child = match self.heap.get(right) {
                Some(&(right_at, _)) if right_at < left_at => right,
                _ => left,
            };
            if self.heap[place].0 <= self.heap[child].0 {
                break;
            }
            self.swap(place, child);
            place = child;
        }
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        self.position[self.heap[a].1 as usize] = a as u32;
        self.position[self.heap[b].1 as usize] = b as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::time::Duration;

    #[derive(Debug, Clone)]
    enum Step {
        Arm(u32, u64),
        Remove(u32),
        Pop(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0u32..20, 0u64..1000).prop_map(|(i, t)| Step::Arm(i, t)),
            1 => (0u32..20).prop_map(Step::Remove),
            2 => (0u64..1000).prop_map(Step::Pop),
        ]
    }

    proptest! {
        #[test]
        fn as_a_map_of_earliest_deadlines(steps in prop::collection::vec(step(), 0..200)) {
            let start = Instant::now();
            let at = |t: u64| start + Duration::from_millis(t);
            let (mut timers, mut model) = (Timers::default(), BTreeMap::<u32, u64>::new());
            for step in steps {
                match step {
                    Step::Arm(i, t) => {
                        timers.arm(i, at(t));
                        let entry = model.entry(i).or_insert(t);
                        *entry = t.min(*entry);
                    }
                    Step::Remove(i) => {
                        timers.remove(i);
                        model.remove(&i);
                    }
                    Step::Pop(t) => {
                        let popped = timers.pop_due(at(t));
                        let earliest = model.values().min().copied();
                        match popped {
                            Some(i) => prop_assert_eq!(model.remove(&i), earliest),
                            None => prop_assert!(earliest.is_none_or(|e| e > t)),
                        }
                    }
                }
                prop_assert_eq!(timers.next(), model.values().min().map(|t| at(*t)));
            }
        }
    }
}
