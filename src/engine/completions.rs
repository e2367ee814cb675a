//! A queue from any thread to the loop, with a descriptor that is readable as long as there is something in it.
//!
//! ```text
//!   any thread   post: push, and signal if the queue was empty
//!   loop thread  readable -> take some, unsignal if that was all
//! ```
//!
//! Both happen under the lock, so "readable" and "not empty" are the same, and many posts cost one signal. Nobody holds the
//! lock while foreign code runs. Once closed, it takes nothing and has no descriptor any more, however many share it.
//!
//! A forked child has a queue of its own, which begins with a copy of what was in it: a signal that both had would be reset
//! by either, and the other would sleep on what it has. Its descriptor has the same number, unless the child has closed that.

use std::collections::VecDeque;
use std::mem;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};

use super::sys::{process, EventFd};
use super::Result;

/// See the module's documentation.
pub struct Completions<T> {
    made_in: u32,
    state: Arc<Mutex<State<T>>>,
    /// The signal's, to be known without the lock; -1: closed.
    descriptor: AtomicI32,
    /// Of the signal.
    identity: Option<u64>,
    /// What is in its place in a forked child.
    of_child: OnceLock<Box<Self>>,
}

struct State<T> {
    queue: VecDeque<T>,
    /// `None`: closed.
    signal: Option<EventFd>,
}

impl<T> Completions<T> {
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM.
    pub fn new() -> Result<Self> {
        Ok(Self::with(VecDeque::new(), Some(EventFd::new()?)))
    }

    fn with(queue: VecDeque<T>, signal: Option<EventFd>) -> Self {
        Self {
            made_in: process::generation(),
            descriptor: AtomicI32::new(signal.as_ref().map_or(-1, AsRawFd::as_raw_fd)),
            identity: signal.as_ref().and_then(EventFd::identity),
            state: Arc::new(Mutex::new(State { queue, signal })),
            of_child: OnceLock::new(),
        }
    }

    /// This process's queue: itself, or what a child has in its place. Any other method does it by itself; a loop that
    /// goes on in a child does it before it waits for the descriptor.
    #[inline]
    pub fn own(&self) -> &Self {
        if self.made_in == process::current() {
            return self;
        }
        self.of_child.get_or_init(|| Box::new(self.inherit())).own()
    }

    /// For a child. Without a descriptor left it is closed, which is what whoever posts is told.
    #[cold]
    fn inherit(&self) -> Self {
        let queue = match self.state.try_lock() {
            Ok(state) => Self::leave_to_parent(state),
            Err(TryLockError::Poisoned(error)) => Self::leave_to_parent(error.into_inner()),
            Err(TryLockError::WouldBlock) => {
                // Held by a thread that this process does not have. What it has left half done is not to be touched.
                mem::forget(Arc::clone(&self.state));
                VecDeque::new()
            }
        };
        let descriptor = Some(self.descriptor.load(Ordering::Relaxed)).filter(|&descriptor| descriptor >= 0);
        let signal = descriptor.and_then(|descriptor| EventFd::in_place_of(descriptor, self.identity).ok());
        if !queue.is_empty() {
            signal.iter().for_each(EventFd::notify);
        }
        Self::with(queue, signal)
    }

    /// Takes what is in the queue; the signal is not closed, since its descriptor gets another one.
    fn leave_to_parent(mut state: MutexGuard<'_, State<T>>) -> VecDeque<T> {
        mem::forget(state.signal.take());
        mem::take(&mut state.queue)
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.own().state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The descriptor to wait for, until `close`.
    pub fn descriptor(&self) -> Option<RawFd> {
        self.lock().signal.as_ref().map(AsRawFd::as_raw_fd)
    }

    /// # Errors
    /// The item itself, when the queue is closed.
    pub fn post(&self, item: T) -> std::result::Result<(), T> {
        let mut state = self.lock();
        let Some(signal) = &state.signal else { return Err(item) };
        if state.queue.is_empty() {
            signal.notify();
        }
        state.queue.push_back(item);
        Ok(())
    }

    /// Up to `limit` items, in the order of their arrival.
    pub fn take(&self, limit: usize) -> VecDeque<T> {
        let mut state = self.lock();
        if state.queue.len() > limit {
            return state.queue.drain(..limit).collect();
        }
        if let Some(signal) = &state.signal {
            signal.reset();
        }
        mem::take(&mut state.queue)
    }

    /// Puts back what was taken and not used, in front of what has come since. What it returns was put back too late.
    #[must_use]
    pub fn put_back(&self, mut items: VecDeque<T>) -> VecDeque<T> {
        let mut state = self.lock();
        let Some(signal) = &state.signal else { return items };
        if state.queue.is_empty() && !items.is_empty() {
            signal.notify();
        }
        items.append(&mut state.queue);
        state.queue = items;
        VecDeque::new()
    }

    /// No item is taken from now on. Returns those that nobody will see.
    #[must_use]
    pub fn close(&self) -> VecDeque<T> {
        let this = self.own();
        let mut state = this.lock();
        state.signal = None;
        this.descriptor.store(-1, Ordering::Relaxed);
        mem::take(&mut state.queue)
    }
}

#[cfg(test)]
mod tests {
    use super::super::reactor::registry::Token;
    use super::super::reactor::{Interest, Reactor, Trigger};
    use super::super::sys::poller::EventBuffer;
    use super::*;

    struct Watched {
        reactor: Reactor,
        completions: Completions<u32>,
    }

    impl Watched {
        fn new() -> Self {
            let reactor = Reactor::new().expect("a reactor");
            let completions = Completions::new().expect("a queue");
            let descriptor = completions.descriptor().expect("an open queue");
            let token = Token::WAKER;
            reactor.register(descriptor, token, Interest::READ, Trigger::Level).expect("registered");
            Self { reactor, completions }
        }

        fn is_readable(&self) -> bool {
            self.reactor.wait(&mut EventBuffer::with_capacity(4), Some(0)).expect("a poll") > 0
        }
    }

    #[test]
    fn it_is_readable_as_long_as_something_is_in_it() {
        let watched = Watched::new();
        assert!(!watched.is_readable());
        for number in 0..5 {
            assert_eq!(watched.completions.post(number), Ok(()));
        }
        assert!(watched.is_readable());
        assert_eq!(watched.completions.take(3), [0, 1, 2]);
        assert!(watched.is_readable());
        assert_eq!(watched.completions.take(3), [3, 4]);
        assert!(!watched.is_readable());
    }

    #[test]
    fn what_is_put_back_comes_first() {
        let watched = Watched::new();
        assert_eq!(watched.completions.post(1), Ok(()));
        let taken = watched.completions.take(10);
        assert!(watched.completions.put_back(taken).is_empty());
        assert!(watched.is_readable());
        assert_eq!(watched.completions.post(2), Ok(()));
        assert_eq!(watched.completions.take(10), [1, 2]);
        assert!(watched.completions.put_back(VecDeque::new()).is_empty());
        assert!(!watched.is_readable());
    }

    #[test]
    fn a_closed_queue_takes_nothing_and_has_no_descriptor() {
        let completions = Completions::new().expect("a queue");
        assert_eq!(completions.post(1), Ok(()));
        let taken = completions.take(10);
        assert_eq!(completions.post(2), Ok(()));
        assert_eq!(completions.close(), [2]);
        assert_eq!(completions.put_back(taken), [1]);
        assert_eq!(completions.post(3), Err(3));
        assert_eq!(completions.descriptor(), None);
        assert!(completions.take(10).is_empty());
    }

    #[test]
    fn nothing_is_lost_between_threads() {
        let watched = Watched::new();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let completions = &watched.completions;
                scope.spawn(move || {
                    (0..1000).for_each(|number| completions.post(thread * 1000 + number).expect("open"))
                });
            }
            let mut seen = [0; 4];
            while seen.iter().sum::<u32>() < 4000 {
                watched.reactor.wait(&mut EventBuffer::with_capacity(4), None).expect("a poll");
                for number in watched.completions.take(64) {
                    let (thread, number) = ((number / 1000) as usize, number % 1000);
                    assert_eq!(number, seen[thread], "out of order");
                    seen[thread] += 1;
                }
            }
        });
        assert!(!watched.is_readable());
    }
}
