//! The waker: ends a wait of the reactor from another thread.
//!
//! Every wake is an event with `Token::WAKER`, and nobody needs to take anything back.

use super::super::sys::poller::{Poller, Signal};
use super::super::Result;
use super::registry::Token;

/// May be shared between threads.
#[derive(Debug)]
pub struct Waker(Signal);

impl Waker {
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM.
    pub fn new(poller: &Poller) -> Result<Self> {
        poller.signal(Token::WAKER.to_u64()).map(Self)
    }

    pub fn wake(&self) {
        self.0.notify();
    }
}
