//! The timer heap is a list that is sorted by deadline and then by age, whatever is set, cancelled and taken out.
//!
//! The model is that list. No clock, no I/O.
#![no_main]

use ironloop::engine::time::timer_heap::TimerHeap;
use ironloop_fuzz::Choices;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut choices = Choices::new(data);
    let (mut heap, mut model, mut keys) = (TimerHeap::new(), Vec::<(u64, usize)>::new(), Vec::new());
    while !choices.is_empty() {
        match choices.byte() % 6 {
            0 | 1 => {
                let deadline = if choices.flag() { choices.byte().into() } else { choices.number() };
                model.insert(model.partition_point(|&(other, _)| other <= deadline), (deadline, keys.len()));
                keys.push(heap.insert(deadline, keys.len()));
            }
            2 if !keys.is_empty() => {
                let number = usize::from(choices.byte()) % keys.len();
                let known = model.iter().position(|&(_, other)| other == number);
                assert_eq!(heap.cancel(keys[number]), known.map(|position| model.remove(position).1));
            }
            3 => {
                let now = choices.byte().into();
                assert_eq!(heap.pop_due(now), model.first().copied().filter(|&(deadline, _)| deadline <= now));
                if model.first().is_some_and(|&(deadline, _)| deadline <= now) {
                    model.remove(0);
                }
            }
            4 => {
                let now = if choices.flag() { choices.byte().into() } else { choices.number() };
                let mut due = Vec::new();
                heap.take_due(now, |deadline, number| due.push((deadline, number)));
                let later = model.partition_point(|&(deadline, _)| deadline <= now);
                assert_eq!(due, model.drain(..later).collect::<Vec<_>>());
            }
            _ if choices.byte() == 9 => {
                let mut left = heap.clear();
                left.sort_unstable();
                let mut expected: Vec<usize> = model.drain(..).map(|(_, number)| number).collect();
                expected.sort_unstable();
                assert_eq!(left, expected);
            }
            _ => {}
        }
        assert_eq!((heap.len(), heap.is_empty()), (model.len(), model.is_empty()));
        assert_eq!(heap.next_deadline(), model.first().map(|&(deadline, _)| deadline));
    }
});
