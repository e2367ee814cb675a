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
//! With a GIL, being attached (`Python<'_>`) means to be alone, and the flag only catches mistakes
//! in this crate. On free-threaded builds a mutex takes that part; it is held as briefly, is
//! uncontended as long as the object is used by its loop's thread, and makes wrong-thread calls
//! safe (though asyncio does not define their order).
#![expect(unsafe_code, reason = "the cell that the closure's borrow comes from")]

use pyo3::Python;

#[cfg(not(Py_GIL_DISABLED))]
mod cell {
    use std::cell::{Cell, UnsafeCell};

    /// A cell guarded by the GIL.
    pub struct Guarded<T> {
        lent: Cell<bool>,
        value: UnsafeCell<T>,
    }

    // SAFETY: `value` and `lent` are reached only through `with` and `try_with`, whose callers hold
    // the GIL for the whole call, so no two threads are ever in there at once.
    unsafe impl<T: Send> Sync for Guarded<T> {}

    /// Clears the flag also when the closure panics.
    struct Return<'a>(&'a Cell<bool>);

    impl Drop for Return<'_> {
        fn drop(&mut self) {
            self.0.set(false);
        }
    }

    impl<T> Guarded<T> {
        pub const fn new(value: T) -> Self {
            Self { lent: Cell::new(false), value: UnsafeCell::new(value) }
        }

        #[inline]
        pub fn try_with<R>(&self, body: impl FnOnce(&mut T) -> R) -> Option<R> {
            if self.lent.replace(true) {
                return None;
            }
            let _return = Return(&self.lent);
            // SAFETY: the flag was false, so no other reference to the value exists; it stays true
            // until `_return` is dropped, after the last use of this reference.
            Some(body(unsafe { &mut *self.value.get() }))
        }

        #[inline]
        pub fn with<R>(&self, body: impl FnOnce(&mut T) -> R) -> R {
            self.try_with(body).expect("state is lent to one closure at a time, and closures do not call Python")
        }
    }
}

#[cfg(Py_GIL_DISABLED)]
mod cell {
    use std::sync::{Mutex, PoisonError, TryLockError};

    /// A cell guarded by a mutex.
    pub struct Guarded<T>(Mutex<T>);

    impl<T> Guarded<T> {
        pub const fn new(value: T) -> Self {
            Self(Mutex::new(value))
        }

        #[inline]
        pub fn with<R>(&self, body: impl FnOnce(&mut T) -> R) -> R {
            body(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
        }

        pub fn try_with<R>(&self, body: impl FnOnce(&mut T) -> R) -> Option<R> {
            match self.0.try_lock() {
                Ok(mut value) => Some(body(&mut value)),
                Err(TryLockError::Poisoned(value)) => Some(body(&mut value.into_inner())),
                Err(TryLockError::WouldBlock) => None,
            }
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
    /// When the state is already lent (with a GIL).
    #[inline]
    pub fn with<R>(&self, _py: Python<'_>, body: impl FnOnce(&mut T) -> R) -> R {
        self.0.with(body)
    }

    /// Lends the state for a garbage collector's visit: never waits, `None` when it is lent.
    ///
    /// The collector runs attached (or with all threads stopped), so this is as exclusive as `with`.
    pub fn visit<R>(&self, body: impl FnOnce(&mut T) -> R) -> Option<R> {
        self.0.try_with(body)
    }
}
