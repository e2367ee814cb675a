//! The inbox: the one way from other threads into the loop, and the one lock.
//!
//! ```text
//!   any thread   post: push, then wake the loop if it sleeps
//!   loop thread  going_to_sleep -> (nothing came?) -> poll -> woke_up -> take
//! ```
//!
//! A sender pushes before it looks at `sleeping`, the loop announces its sleep before it looks at the
//! queue; both orders are sequentially consistent, so one of them always sees the other. The loop is
//! woken once per sleep, not once per call.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::ready::Entry;
use crate::engine::reactor::Reactor;

/// See the module's documentation.
pub struct Inbox {
    entries: Mutex<Vec<Entry>>,
    occupied: AtomicBool,
    sleeping: AtomicBool,
    /// What wakes the loop; gone once the loop is closed. Another one in a forked child.
    reactor: Mutex<Option<Arc<Reactor>>>,
}

impl Inbox {
    pub const fn new(reactor: Arc<Reactor>) -> Self {
        Self {
            entries: Mutex::new(Vec::new()),
            occupied: AtomicBool::new(false),
            sleeping: AtomicBool::new(false),
            reactor: Mutex::new(Some(reactor)),
        }
    }

    /// Adds an entry and wakes the loop if it sleeps.
    pub fn post(&self, entry: Entry) {
        if let Some(reactor) = self.post_quietly(entry) {
            reactor.waker().wake();
        }
    }

    /// Adds an entry. The caller has to wake what it gets, the reactor of a loop that sleeps, once per sleep.
    pub fn post_quietly(&self, entry: Entry) -> Option<Arc<Reactor>> {
        {
            let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
            entries.push(entry);
            self.occupied.store(true, Ordering::SeqCst);
        }
        self.end_sleep()
    }

    /// What wakes the loop if it sleeps, once per sleep.
    pub fn end_sleep(&self) -> Option<Arc<Reactor>> {
        let slept = self.sleeping.load(Ordering::SeqCst) && self.sleeping.swap(false, Ordering::SeqCst);
        let reactor = slept.then(|| self.reactor.lock().unwrap_or_else(PoisonError::into_inner));
        reactor.and_then(|reactor| reactor.clone())
    }

    /// The loop is closed: nobody is woken any more.
    pub fn close(&self) -> Vec<Entry> {
        drop(self.replace_reactor(None));
        self.take()
    }

    /// From now on `reactor` is what wakes the loop; the caller drops what comes back.
    pub fn replace_reactor(&self, reactor: Option<Arc<Reactor>>) -> Option<Arc<Reactor>> {
        std::mem::replace(&mut *self.reactor.lock().unwrap_or_else(PoisonError::into_inner), reactor)
    }

    /// Whether there is something to take; cheap.
    #[inline]
    pub fn is_occupied(&self) -> bool {
        self.occupied.load(Ordering::SeqCst)
    }

    /// All entries, in the order of their arrival.
    pub fn take(&self) -> Vec<Entry> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        self.occupied.store(false, Ordering::SeqCst);
        std::mem::take(&mut *entries)
    }

    /// Announces that the loop will block. False: something is there already, do not block.
    pub fn going_to_sleep(&self) -> bool {
        self.sleeping.store(true, Ordering::SeqCst);
        if self.is_occupied() {
            self.woke_up();
            return false;
        }
        true
    }

    /// Whether the loop waits, or is about to, and nobody has woken it yet.
    #[inline]
    pub fn is_sleeping(&self) -> bool {
        self.sleeping.load(Ordering::SeqCst)
    }

    /// The sleep is over; whether it was this that ended it.
    pub fn woke_up(&self) -> bool {
        !self.sleeping.swap(false, Ordering::SeqCst)
    }

    /// For the garbage collector: never waits.
    pub fn visit<R>(&self, body: impl FnOnce(&[Entry]) -> R) -> Option<R> {
        self.entries.try_lock().ok().map(|entries| body(&entries))
    }
}
