//! `Channel`: both directions of a connection's ciphertext in memory, as a BIO that an `SSL` reads from and writes to.
//!
//! What was received is lent as a slice for the duration of a call and copied only if the `SSL` leaves some of it over;
//! what is to be sent is appended to a vector that the session takes. The BIO never reports an end: that a peer
//! has gone is for whoever owns the socket to say, as with `ssl.MemoryBIO`.
//!
//! Invariant: the channel is owned by its BIO (freed by `destroy`), and reached only through short borrows in
//! this file, during which no function of OpenSSL runs.
#![expect(unsafe_code, reason = "OpenSSL's C API")]

use std::ffi::{c_char, c_int, c_long, c_void};
use std::ptr::{self, NonNull};
use std::sync::OnceLock;

use super::{Bio, BioMethod, Functions};

const BIO_TYPE_SOURCE_SINK: c_int = 0x0400;
const BIO_FLAGS_READ: c_int = 0x01;
const BIO_FLAGS_RWS: c_int = 0x07;
const BIO_FLAGS_SHOULD_RETRY: c_int = 0x08;
const BIO_CTRL_PENDING: c_int = 10;
const BIO_CTRL_FLUSH: c_int = 11;
const BIO_CTRL_WPENDING: c_int = 13;

/// Left-over memory that is kept for the next time, in bytes: most left-overs are less than a record.
const KEPT_CAPACITY: usize = 4096;

/// See the module's documentation.
#[derive(Default)]
pub struct Channel {
    /// Ciphertext that was left over, from `taken` on.
    left: Vec<u8>,
    taken: usize,
    /// Ciphertext that is lent: valid for as long as `with_lent` runs.
    lent: Option<(NonNull<u8>, usize)>,
    outgoing: Vec<u8>,
    /// Bytes that the SSL has read since the last record that it gave out.
    begun: usize,
    /// The BIO's flags say that a read is to be tried again.
    retrying: bool,
}

/// What the callbacks need: how to reach a BIO's data and flags.
struct BioFunctions {
    data: unsafe extern "C" fn(*mut Bio) -> *mut c_void,
    set_data: unsafe extern "C" fn(*mut Bio, *mut c_void),
    set_flags: unsafe extern "C" fn(*mut Bio, c_int),
    clear_flags: unsafe extern "C" fn(*mut Bio, c_int),
}

static BIO: OnceLock<BioFunctions> = OnceLock::new();

/// The BIO_METHOD of channels; made once per process and never freed.
pub fn method(functions: &Functions) -> Option<*mut BioMethod> {
    BIO.get_or_init(|| BioFunctions {
        data: functions.BIO_get_data,
        set_data: functions.BIO_set_data,
        set_flags: functions.BIO_set_flags,
        clear_flags: functions.BIO_clear_flags,
    });
    // SAFETY: has no preconditions.
    let index = unsafe { (functions.BIO_get_new_index)() };
    if index < 0 {
        return None;
    }
    // SAFETY: the name is a static string that ends with a zero.
    let method = unsafe { (functions.BIO_meth_new)(index | BIO_TYPE_SOURCE_SINK, c"ironloop".as_ptr()) };
    if method.is_null() {
        return None;
    }
    // SAFETY: `method` was made above and is not in use; the functions have the signatures that are asked for.
    let complete = unsafe {
        (functions.BIO_meth_set_read)(method, read) == 1
            && (functions.BIO_meth_set_write)(method, write) == 1
            && (functions.BIO_meth_set_ctrl)(method, control) == 1
            && (functions.BIO_meth_set_destroy)(method, destroy) == 1
    };
    complete.then_some(method)
}

/// How a channel is shared between its session and the BIO's callbacks.
///
/// Whoever has a GIL holds it in both, which is the contract of `Session::attach`. Without one, other threads may ask a
/// session for the size of a buffer while an operation runs, so there is a lock; no closure calls anything that locks.
#[cfg(not(Py_GIL_DISABLED))]
type Shared = std::cell::UnsafeCell<Channel>;
#[cfg(Py_GIL_DISABLED)]
type Shared = std::sync::Mutex<Channel>;

/// A BIO with a channel; the caller owns the one reference to it.
pub fn new_bio(functions: &Functions, method: *const BioMethod) -> Option<NonNull<Bio>> {
    // SAFETY: `method` came from `method()`.
    let bio = NonNull::new(unsafe { (functions.BIO_new)(method) })?;
    let channel = Box::into_raw(Box::new(Shared::new(Channel::default())));
    // SAFETY: a BIO of ours; from here on `destroy` frees the channel.
    unsafe { (functions.BIO_set_data)(bio.as_ptr(), channel.cast()) };
    // SAFETY: as above.
    unsafe { (functions.BIO_set_init)(bio.as_ptr(), 1) };
    Some(bio)
}

/// The channel of a BIO.
///
/// # Safety
/// `bio` came from `new_bio` and is not freed; no other reference to its channel exists while the closure runs, which holds
/// as closures call nothing of OpenSSL's.
pub unsafe fn with_channel<R>(bio: *mut Bio, body: impl FnOnce(&mut Channel) -> R) -> Option<R> {
    let functions = BIO.get()?;
    // SAFETY: passed on to the caller.
    let shared = unsafe { (functions.data)(bio) }.cast::<Shared>();
    // SAFETY: null, or the box that `new_bio` put there, which lives as long as the BIO.
    let shared = unsafe { shared.as_ref() }?;
    #[cfg(not(Py_GIL_DISABLED))]
    {
        // SAFETY: exclusive by the caller's promise.
        Some(body(unsafe { &mut *shared.get() }))
    }
    #[cfg(Py_GIL_DISABLED)]
    {
        Some(body(&mut shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner)))
    }
}

impl Channel {
    /// Lends ciphertext until `take_back`; what was lent before is kept.
    ///
    /// # Safety
    /// `ciphertext` must stay valid until `take_back` is called.
    pub unsafe fn lend(&mut self, ciphertext: &[u8]) {
        self.take_back();
        self.lent = Some((NonNull::from(ciphertext).cast(), ciphertext.len()));
    }

    /// Keeps what is left of the ciphertext that was lent.
    pub fn take_back(&mut self) {
        let Some((start, length)) = self.lent.take() else { return };
        if self.taken == self.left.len() {
            self.left.clear();
            self.taken = 0;
            if self.left.capacity() > KEPT_CAPACITY {
                self.left = Vec::new();
            }
        }
        if length > 0 {
            // SAFETY: valid by `lend`'s contract.
            let rest = unsafe { std::slice::from_raw_parts(start.as_ptr(), length) };
            self.left.drain(..self.taken);
            self.taken = 0;
            self.left.extend_from_slice(rest);
        }
    }

    /// Bytes that were received and not read.
    pub fn unread(&self) -> usize {
        self.left.len() - self.taken + self.lent.map_or(0, |(_, length)| length)
    }

    /// Bytes of a record that is not complete.
    pub fn begun(&self) -> usize {
        self.begun
    }

    pub fn record_ended(&mut self) {
        self.begun = 0;
    }

    pub fn outgoing(&self) -> usize {
        self.outgoing.len()
    }

    pub fn take_outgoing(&mut self, spare: Vec<u8>) -> Vec<u8> {
        std::mem::replace(&mut self.outgoing, spare)
    }

    /// Makes room for records that are about to be written.
    pub fn reserve(&mut self, additional: usize) {
        self.outgoing.reserve(additional);
    }

    /// Copies out what is left over first, then what is lent.
    fn read(&mut self, into: *mut u8, wanted: usize) -> usize {
        let left = &self.left[self.taken..];
        if !left.is_empty() {
            let count = left.len().min(wanted);
            // SAFETY: `into` has room for `wanted` bytes, by the contract of a BIO's read callback, and is memory of the SSL's.
            unsafe { ptr::copy_nonoverlapping(left.as_ptr(), into, count) };
            self.taken += count;
            return count;
        }
        let Some((start, length)) = self.lent else { return 0 };
        let count = length.min(wanted);
        // SAFETY: as above; the source is valid by `lend`'s contract.
        unsafe { ptr::copy_nonoverlapping(start.as_ptr(), into, count) };
        // SAFETY: within the lent slice, or one past its end.
        self.lent = Some((unsafe { start.add(count) }, length - count));
        count
    }
}

unsafe extern "C" fn read(bio: *mut Bio, into: *mut c_char, wanted: c_int) -> c_int {
    let Ok(room) = usize::try_from(wanted) else { return 0 };
    // SAFETY: OpenSSL calls with a BIO of this method; no borrow of its channel exists, as those that this file makes end
    // before OpenSSL is called.
    let outcome = unsafe {
        with_channel(bio, |channel| {
            let count = channel.read(into.cast(), room);
            channel.begun += count;
            (count, std::mem::replace(&mut channel.retrying, count == 0))
        })
    };
    let (Some((count, was_retrying)), Some(functions)) = (outcome, BIO.get()) else { return -1 };
    if was_retrying {
        // SAFETY: as above.
        unsafe { (functions.clear_flags)(bio, BIO_FLAGS_RWS | BIO_FLAGS_SHOULD_RETRY) };
    }
    if count == 0 {
        // SAFETY: as above.
        unsafe { (functions.set_flags)(bio, BIO_FLAGS_READ | BIO_FLAGS_SHOULD_RETRY) };
        return -1;
    }
    c_int::try_from(count).unwrap_or(c_int::MAX)
}

unsafe extern "C" fn write(bio: *mut Bio, from: *const c_char, length: c_int) -> c_int {
    let Ok(count) = usize::try_from(length) else { return -1 };
    if count == 0 {
        return 0;
    }
    // SAFETY: OpenSSL gives `length` readable bytes.
    let records = unsafe { std::slice::from_raw_parts(from.cast::<u8>(), count) };
    // SAFETY: as in `read`.
    let written = unsafe { with_channel(bio, |channel| channel.outgoing.extend_from_slice(records)) };
    written.map_or(-1, |()| length)
}

unsafe extern "C" fn control(bio: *mut Bio, command: c_int, _number: c_long, _pointer: *mut c_void) -> c_long {
    let count = match command {
        BIO_CTRL_FLUSH => return 1,
        // SAFETY: as in `read`.
        BIO_CTRL_PENDING => unsafe { with_channel(bio, |channel| channel.unread()) },
        // SAFETY: as in `read`.
        BIO_CTRL_WPENDING => unsafe { with_channel(bio, |channel| channel.outgoing()) },
        // Everything else, among it the questions for kTLS: no.
        _ => return 0,
    };
    c_long::try_from(count.unwrap_or_default()).unwrap_or(c_long::MAX)
}

unsafe extern "C" fn destroy(bio: *mut Bio) -> c_int {
    let Some(functions) = BIO.get() else { return 0 };
    // SAFETY: a BIO of ours that is about to be freed.
    let channel = unsafe { (functions.data)(bio) }.cast::<Shared>();
    // SAFETY: as above.
    unsafe { (functions.set_data)(bio, ptr::null_mut()) };
    if !channel.is_null() {
        // SAFETY: the box that `new_bio` gave away, freed once: the BIO does not point to it any more.
        drop(unsafe { Box::from_raw(channel) });
    }
    1
}
