//! `Session`: an `SSL` that somebody else has made, with a channel of ours for its ciphertext.
//!
//! The maker (Python's `_ssl`) has set it up: context, side, host name, verification, application data. Invariants:
//!
//! * The session holds references of its own to the `SSL` and the BIO, so both live as long as it does; the `SSL` holds the
//!   `SSL_CTX`, also one that a callback puts in its place. The application data is kept alive by whoever made the session.
//! * One operation at a time (`Busy`): one that a callback of another asks for is told to wait. With a GIL operations
//!   and the channel's users are attached; the maker's own methods detach, so they run within `given_back` only.
//! * Errors stay in the thread's error queue, where the maker finds them and makes exceptions of them.
#![expect(unsafe_code, reason = "OpenSSL's C API")]

use std::ffi::{c_int, c_ulong};
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};

use super::channel::{self, Channel};
use super::{Bio, Library, Ssl};
use crate::engine::tls::record_layer::{Read, RecordLayer, Step, Write};

const SSL_ERROR_WANT_READ: c_int = 2;
const SSL_ERROR_WANT_WRITE: c_int = 3;
const SSL_ERROR_ZERO_RETURN: c_int = 6;
const SSL_RECEIVED_SHUTDOWN: c_int = 2;

/// Plaintext of one record at the most (RFC 8446, 5.1).
const LARGEST_RECORD: usize = 16 * 1024;
/// Bytes that a record adds to its plaintext at the most: header, explicit nonce or IV, padding, tag.
const RECORD_OVERHEAD: usize = 85;

/// An operation failed; why is in the thread's error queue, or follows from the `SSL`'s state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Failure {
    /// What `SSL_get_error` said.
    code: c_int,
    /// The newest error in the queue.
    error: c_ulong,
}

/// See the module's documentation.
pub struct Session {
    library: &'static Library,
    ssl: NonNull<Ssl>,
    bio: NonNull<Bio>,
    /// An operation runs.
    busy: AtomicBool,
    /// One of the maker's runs, perhaps detached: the channel is its own.
    given_back: AtomicBool,
}

// SAFETY: an SSL and a BIO belong to no thread. That only one thread at a time uses them is the contract of `attach`.
unsafe impl Send for Session {}
// SAFETY: as above.
unsafe impl Sync for Session {}

impl Session {
    /// Gives `ssl` a channel in place of its BIOs. `None` when there is no memory.
    ///
    /// # Safety
    /// `ssl` points to an `SSL` of this library whose handshake has not begun. Its application data must stay valid, and
    /// its operations must be called by one thread at a time, as long as the session lives.
    pub unsafe fn attach(library: &'static Library, ssl: NonNull<Ssl>) -> Option<Self> {
        let functions = &library.functions;
        let bio = channel::new_bio(functions, library.method)?;
        // SAFETY: `ssl` is live by the caller's promise.
        if unsafe { (functions.SSL_up_ref)(ssl.as_ptr()) } != 1 {
            // SAFETY: made above, nobody else refers to it.
            unsafe { (functions.BIO_free)(bio.as_ptr()) };
            return None;
        }
        let session = Self { library, ssl, bio, busy: AtomicBool::new(false), given_back: AtomicBool::new(false) };
        for _direction in 0..2 {
            // SAFETY: the BIO is live. A reference that is lost on the way out would leak, no more.
            if unsafe { (functions.BIO_up_ref)(bio.as_ptr()) } != 1 {
                return None;
            }
        }
        // SAFETY: both are live; one of the references taken above is given away.
        unsafe { (functions.SSL_set0_rbio)(ssl.as_ptr(), bio.as_ptr()) };
        // SAFETY: as above.
        unsafe { (functions.SSL_set0_wbio)(ssl.as_ptr(), bio.as_ptr()) };
        // Reading ahead is for sockets, where it saves system calls. Here it would copy, and hide bytes from `unread`.
        // SAFETY: live.
        unsafe { (functions.SSL_set_read_ahead)(ssl.as_ptr(), 0) };
        Some(session)
    }

    fn channel<R>(&self, body: impl FnOnce(&mut Channel) -> R) -> Option<R> {
        if self.given_back.load(Ordering::Relaxed) {
            return None;
        }
        // SAFETY: the BIO is ours and alive; the closures in this file call nothing of OpenSSL's.
        unsafe { channel::with_channel(self.bio.as_ptr(), body) }
    }

    /// Runs `body`, which calls the maker's methods: they may detach, and then what other threads ask of this session must
    /// neither call OpenSSL nor touch the channel. Nothing is sent or received meanwhile.
    pub fn given_back<R>(&self, body: impl FnOnce() -> R) -> R {
        struct Return<'a>(&'a AtomicBool);
        impl Drop for Return<'_> {
            fn drop(&mut self) {
                self.0.store(false, Ordering::Relaxed);
            }
        }
        let _busy = Busy::begin(self);
        self.given_back.store(true, Ordering::Relaxed);
        let _return = Return(&self.given_back);
        body()
    }

    /// What others may have left in the thread's error queue would be taken for an error of the next operation.
    fn forget_errors(&self) {
        // Looking costs a tenth of clearing.
        // SAFETY: has no preconditions.
        if unsafe { (self.library.functions.ERR_peek_error)() } != 0 {
            // SAFETY: as above.
            unsafe { (self.library.functions.ERR_clear_error)() };
        }
    }

    fn failure(&self, result: c_int) -> Failure {
        // SAFETY: live; `result` is what the last operation on it returned.
        let code = unsafe { (self.library.functions.SSL_get_error)(self.ssl.as_ptr(), result) };
        // SAFETY: has no preconditions.
        Failure { code, error: unsafe { (self.library.functions.ERR_peek_last_error)() } }
    }

    /// Why an operation failed, in OpenSSL's words; `None` if the reason is not one of TLS.
    pub fn reason(&self, failure: Failure) -> Option<String> {
        self.library.reason(failure.error)
    }

    /// The records that are to be sent. `spare` is an empty vector whose memory the next ones may use.
    pub fn take_outgoing(&self, spare: Vec<u8>) -> Vec<u8> {
        self.channel(|channel| channel.take_outgoing(spare)).unwrap_or_default()
    }

    fn shutdown_state(&self) -> c_int {
        // SAFETY: live.
        unsafe { (self.library.functions.SSL_get_shutdown)(self.ssl.as_ptr()) }
    }
}

/// An operation that runs. OpenSSL's are not re-entrant; one that a callback of another asks for has to wait.
struct Busy<'a>(&'a AtomicBool);

impl<'a> Busy<'a> {
    #[inline]
    fn begin(session: &'a Session) -> Option<Self> {
        (!session.busy.swap(true, Ordering::Acquire)).then(|| Self(&session.busy))
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Failure {
    fn wants_more(self) -> bool {
        matches!(self.code, SSL_ERROR_WANT_READ | SSL_ERROR_WANT_WRITE)
    }
}

/// Takes back what was lent, also when the body panics.
struct Lent<'a>(&'a Session);

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        self.0.channel(Channel::take_back);
    }
}

impl RecordLayer for Session {
    type Error = Failure;

    fn with_ciphertext<R>(&self, ciphertext: &[u8], body: impl FnOnce() -> R) -> Result<R, Failure> {
        // SAFETY: `ciphertext` outlives this call, and `Lent` takes it back before it ends.
        self.channel(|channel| unsafe { channel.lend(ciphertext) });
        let _lent = Lent(self);
        Ok(body())
    }

    fn unread(&self) -> usize {
        self.channel(|channel| channel.unread()).unwrap_or_default()
    }

    fn plaintext_bound(&self) -> usize {
        self.channel(|channel| channel.unread() + channel.begun()).unwrap_or_default()
    }

    fn handshake(&self) -> Result<Step, Failure> {
        let Some(_busy) = Busy::begin(self) else { return Ok(Step::WantsMore) };
        self.forget_errors();
        // SAFETY: live.
        let result = unsafe { (self.library.functions.SSL_do_handshake)(self.ssl.as_ptr()) };
        if result == 1 {
            return Ok(Step::Done);
        }
        match self.failure(result) {
            failure if failure.wants_more() => Ok(Step::WantsMore),
            failure => Err(failure),
        }
    }

    fn read(&self, into: &mut [MaybeUninit<u8>]) -> Result<Read, Failure> {
        let Some(_busy) = Busy::begin(self) else { return Ok(Read::WantsMore) };
        self.forget_errors();
        let mut count = 0;
        // SAFETY: live; the buffer is valid for writes of its length.
        let result = unsafe {
            (self.library.functions.SSL_read_ex)(
                self.ssl.as_ptr(),
                into.as_mut_ptr().cast(),
                into.len(),
                &raw mut count,
            )
        };
        if result == 1 {
            self.channel(Channel::record_ended);
            return Ok(Read::Data(count));
        }
        match self.failure(result) {
            failure if failure.wants_more() => Ok(Read::WantsMore),
            // As `_ssl` decides: close_notify of the peer's only counts as the end before ours is sent.
            failure if failure.code == SSL_ERROR_ZERO_RETURN && self.shutdown_state() == SSL_RECEIVED_SHUTDOWN => {
                Ok(Read::Closed)
            }
            failure => Err(failure),
        }
    }

    fn write(&self, plaintext: &[u8]) -> Result<Write, Failure> {
        if plaintext.is_empty() {
            return Ok(Write::Taken(0));
        }
        let Some(_busy) = Busy::begin(self) else { return Ok(Write::WantsMore) };
        self.forget_errors();
        let records = plaintext.len().div_ceil(LARGEST_RECORD);
        self.channel(|channel| channel.reserve(plaintext.len() + records * RECORD_OVERHEAD));
        let mut count = 0;
        // SAFETY: live; the data is valid for reads of its length.
        let result = unsafe {
            (self.library.functions.SSL_write_ex)(
                self.ssl.as_ptr(),
                plaintext.as_ptr().cast(),
                plaintext.len(),
                &raw mut count,
            )
        };
        if result == 1 {
            return Ok(Write::Taken(count));
        }
        match self.failure(result) {
            failure if failure.wants_more() => Ok(Write::WantsMore),
            failure => Err(failure),
        }
    }

    fn shutdown(&self) -> Result<Step, Failure> {
        let Some(_busy) = Busy::begin(self) else { return Ok(Step::WantsMore) };
        // The first call sends close_notify and answers 0, the second looks for the peer's; as `_ssl` does, not more than twice.
        for _ in 0..2 {
            self.forget_errors();
            // SAFETY: live.
            let result = unsafe { (self.library.functions.SSL_shutdown)(self.ssl.as_ptr()) };
            if result > 0 {
                return Ok(Step::Done);
            }
            if result < 0 {
                return match self.failure(result) {
                    failure if failure.wants_more() => Ok(Step::WantsMore),
                    failure => Err(failure),
                };
            }
        }
        Ok(Step::Done)
    }

    fn outgoing(&self) -> usize {
        self.channel(|channel| channel.outgoing()).unwrap_or_default()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // SAFETY: the reference that `attach` took, given back once.
        unsafe { (self.library.functions.SSL_free)(self.ssl.as_ptr()) };
        // SAFETY: the reference that `new_bio` gave us, given back once.
        unsafe { (self.library.functions.BIO_free)(self.bio.as_ptr()) };
    }
}
