//! `LoopOwned<T>`: state of the loop's thread, reachable from every Python method of its object.
//!
//! The state is only lent to a closure, for as long as that closure runs, and the closure must not
//! call into Python: whatever Python code could do (call a method of the same object, close the loop,
//! drop the last reference) would find the state already lent.
//!
//! ```text
//!   with(py, |state| ...)   free -> lent -> free       a second `with` inside the first: panic
//! ```
//!
//! To let go of a Python object counts as a call: it may be the last reference, and then any finalizer runs. So closures
//! hand out what they remove, and the caller drops it.
//!
//! With a GIL, being attached (`Python<'_>`) means to be alone, and a flag catches mistakes in this crate. Without, a lock
//! takes that part; it is held as briefly, is uncontended as long as the object is used by its loop's thread, and makes
//! wrong-thread calls safe (though asyncio does not define their order). It is never waited for by a thread that is
//! attached, and never taken by one that is not: so it is free whenever the collector has stopped the others, and what
//! the collector visits twice looks the same both times.
#![expect(unsafe_code, reason = "the cell that the closure's borrow comes from")]

use pyo3::Python;

#[cfg(not(Py_GIL_DISABLED))]
mod cell {
    use std::cell::{Cell, UnsafeCell};

    use pyo3::Python;

    /// A cell guarded by the GIL.
    pub struct Guarded<T> {
        /// Not 0: it is. A word, as what holds this is copied in words then.
        lent: Cell<usize>,
        value: UnsafeCell<T>,
    }

    // SAFETY: `value` and `lent` are reached only through `with` and `try_with`, whose callers hold
    // the GIL for the whole call, so no two threads are ever in there at once.
    unsafe impl<T: Send> Sync for Guarded<T> {}

    /// The right to use the value, given back when this is dropped, also by a panic.
    struct Loan<'a, T>(&'a Guarded<T>);

    impl<T> Loan<'_, T> {
        #[inline(always)]
        fn spend<R>(self, body: impl FnOnce(&mut T) -> R) -> R {
            // SAFETY: the flag was 0, so no other reference to the value exists; it stays 1 until `self` is dropped, after the
            // last use of this one.
            body(unsafe { &mut *self.0.value.get() })
        }
    }

    impl<T> Drop for Loan<'_, T> {
        #[inline(always)]
        fn drop(&mut self) {
            self.0.lent.set(0);
        }
    }

    impl<T> Guarded<T> {
        pub const fn new(value: T) -> Self {
            Self { lent: Cell::new(0), value: UnsafeCell::new(value) }
        }

        pub fn into_inner(self) -> T {
            self.value.into_inner()
        }

        #[inline(always)]
        fn lend(&self) -> Option<Loan<'_, T>> {
            (self.lent.replace(1) == 0).then(|| Loan(self))
        }

        #[inline(always)]
        pub fn try_with<R>(&self, body: impl FnOnce(&mut T) -> R) -> Option<R> {
            self.lend().map(|loan| loan.spend(body))
        }

        /// Not by way of `try_with`: a result is large, and would be copied.
        #[inline(always)]
        pub fn with<R>(&self, _py: Python<'_>, body: impl FnOnce(&mut T) -> R) -> R {
            self.lend().expect("state is lent to one closure at a time, and closures do not call Python").spend(body)
        }
    }
}

#[cfg(Py_GIL_DISABLED)]
mod cell {
    use std::cell::UnsafeCell;
    use std::sync::atomic::{AtomicU64, Ordering};

    use pyo3::Python;

    use crate::py::call::thread_ident;

    /// A cell guarded by a lock that is only ever taken by threads that are attached.
    pub struct Guarded<T> {
        /// Which thread it is lent to, 0: to none.
        borrower: AtomicU64,
        value: UnsafeCell<T>,
    }

    // SAFETY: `value` is reached only by who has the loan, which one thread has at a time.
    unsafe impl<T: Send> Sync for Guarded<T> {}

    /// The right to use the value, given back when this is dropped, also by a panic.
    struct Loan<'a, T>(&'a Guarded<T>);

    impl<T> Loan<'_, T> {
        #[inline]
        fn spend<R>(self, body: impl FnOnce(&mut T) -> R) -> R {
            // SAFETY: there is one loan at a time, so no other reference to the value exists; `self` is dropped
            // after the last use of this one.
            body(unsafe { &mut *self.0.value.get() })
        }
    }

    impl<T> Drop for Loan<'_, T> {
        fn drop(&mut self) {
            self.0.borrower.store(0, Ordering::Release);
        }
    }

    impl<T> Guarded<T> {
        pub const fn new(value: T) -> Self {
            Self { borrower: AtomicU64::new(0), value: UnsafeCell::new(value) }
        }

        pub fn into_inner(self) -> T {
            self.value.into_inner()
        }

        #[inline]
        fn lend(&self) -> Option<Loan<'_, T>> {
            let lent = self.borrower.compare_exchange(0, thread_ident(), Ordering::Acquire, Ordering::Relaxed);
            lent.is_ok().then(|| Loan(self))
        }

        #[inline]
        pub fn try_with<R>(&self, body: impl FnOnce(&mut T) -> R) -> Option<R> {
            self.lend().map(|loan| loan.spend(body))
        }

        #[inline]
        pub fn with<R>(&self, py: Python<'_>, body: impl FnOnce(&mut T) -> R) -> R {
            let loan = loop {
                match self.lend() {
                    Some(loan) => break loan,
                    None => self.wait(py),
                }
            };
            loan.spend(body)
        }

        /// Lets the borrower get on. Detached: it may have to wait for a collection, and that one for us.
        #[cold]
        fn wait(&self, py: Python<'_>) {
            let borrower = self.borrower.load(Ordering::Relaxed);
            assert_ne!(
                borrower,
                thread_ident(),
                "state is lent to one closure at a time, and closures do not call Python"
            );
            py.detach(std::thread::yield_now);
        }
    }
}

/// See the module's documentation.
pub struct LoopOwned<T>(cell::Guarded<T>);

impl<T> LoopOwned<T> {
    pub const fn new(value: T) -> Self {
        Self(cell::Guarded::new(value))
    }

    /// Lends the state to `body`, which must not call into Python.
    ///
    /// # Panics
    /// When the state is already lent to the calling thread.
    #[inline]
    pub fn with<R>(&self, py: Python<'_>, body: impl FnOnce(&mut T) -> R) -> R {
        self.0.with(py, body)
    }

    /// The state, of an object that is no more.
    #[inline]
    pub fn into_inner(self) -> T {
        self.0.into_inner()
    }

    /// Lends the state for a garbage collector's visit: never waits, `None` when it is lent.
    ///
    /// The collector runs attached, or with all threads stopped, so this is as exclusive as `with`.
    pub fn visit<R>(&self, body: impl FnOnce(&mut T) -> R) -> Option<R> {
        self.0.try_with(body)
    }
}
