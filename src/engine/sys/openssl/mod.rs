//! OpenSSL, through the very libssl that the process has loaded already: nothing is linked, nothing is loaded.
//!
//! `Library` is the table of functions found by dlsym(3) from a shared object that is linked with libssl; `channel` is
//! the BIO that our ciphertext goes through, `session` an `SSL` with such a BIO. Versions: 1.1.1 and 3.x.
//!
//! Who calls: any thread, one at a time per `SSL`. Functions that take an `SSL` may run the application's callbacks.
#![expect(unsafe_code, reason = "OpenSSL's C API")]

mod channel;
mod session;

use std::ffi::{c_char, c_int, c_long, c_ulong, c_void, CStr};
use std::sync::OnceLock;

pub use session::{Failure, Session};

/// Opaque structures of OpenSSL's.
pub type Ssl = c_void;
pub type SslCtx = c_void;
pub type Bio = c_void;
pub type BioMethod = c_void;

pub type BioRead = unsafe extern "C" fn(*mut Bio, *mut c_char, c_int) -> c_int;
pub type BioWrite = unsafe extern "C" fn(*mut Bio, *const c_char, c_int) -> c_int;
pub type BioCtrl = unsafe extern "C" fn(*mut Bio, c_int, c_long, *mut c_void) -> c_long;
pub type BioDestroy = unsafe extern "C" fn(*mut Bio) -> c_int;

macro_rules! functions {
    ($($name:ident($($argument:ty),*) $(-> $result:ty)?;)*) => {
        /// The functions that are used, under their names in OpenSSL's manual.
        #[allow(non_snake_case, reason = "names of OpenSSL's")]
        pub struct Functions { $(pub(super) $name: unsafe extern "C" fn($($argument),*) $(-> $result)?,)* }

        impl Functions {
            fn find(object: *mut c_void) -> Option<Self> {
                Some(Self { $($name: {
                    const NAME: &CStr = match CStr::from_bytes_with_nul(concat!(stringify!($name), "\0").as_bytes()) {
                        Ok(name) => name,
                        Err(_) => c"",
                    };
                    // SAFETY: the handle is open (see `Library::load`); the name ends with a zero.
                    let address = unsafe { libc::dlsym(object, NAME.as_ptr()) };
                    if address.is_null() {
                        return None;
                    }
                    // SAFETY: the symbol is OpenSSL's function of this name, whose signature in all the versions that
                    // `Library::load` lets through is the one in the table below.
                    unsafe { std::mem::transmute::<*mut c_void, unsafe extern "C" fn($($argument),*) $(-> $result)?>(address) }
                },)* })
            }
        }
    };
}

functions! {
    OpenSSL_version_num() -> c_ulong;
    OpenSSL_version(c_int) -> *const c_char;
    ERR_peek_error() -> c_ulong;
    ERR_peek_last_error() -> c_ulong;
    ERR_reason_error_string(c_ulong) -> *const c_char;
    ERR_clear_error();
    BIO_get_new_index() -> c_int;
    BIO_meth_new(c_int, *const c_char) -> *mut BioMethod;
    BIO_meth_set_read(*mut BioMethod, BioRead) -> c_int;
    BIO_meth_set_write(*mut BioMethod, BioWrite) -> c_int;
    BIO_meth_set_ctrl(*mut BioMethod, BioCtrl) -> c_int;
    BIO_meth_set_destroy(*mut BioMethod, BioDestroy) -> c_int;
    BIO_new(*const BioMethod) -> *mut Bio;
    BIO_free(*mut Bio) -> c_int;
    BIO_up_ref(*mut Bio) -> c_int;
    BIO_set_init(*mut Bio, c_int);
    BIO_set_data(*mut Bio, *mut c_void);
    BIO_get_data(*mut Bio) -> *mut c_void;
    BIO_set_flags(*mut Bio, c_int);
    BIO_clear_flags(*mut Bio, c_int);
    SSL_up_ref(*mut Ssl) -> c_int;
    SSL_free(*mut Ssl);
    SSL_set0_rbio(*mut Ssl, *mut Bio);
    SSL_set0_wbio(*mut Ssl, *mut Bio);
    SSL_set_read_ahead(*mut Ssl, c_int);
    SSL_do_handshake(*mut Ssl) -> c_int;
    SSL_read_ex(*mut Ssl, *mut c_void, usize, *mut usize) -> c_int;
    SSL_write_ex(*mut Ssl, *const c_void, usize, *mut usize) -> c_int;
    SSL_shutdown(*mut Ssl) -> c_int;
    SSL_get_shutdown(*const Ssl) -> c_int;
    SSL_get_error(*const Ssl, c_int) -> c_int;
    SSL_get_ex_data(*const Ssl, c_int) -> *mut c_void;
    SSL_get_SSL_CTX(*const Ssl) -> *mut SslCtx;
    SSL_get_options(*const Ssl) -> c_ulong;
    SSL_is_server(*const Ssl) -> c_int;
    SSL_CTX_get_options(*const SslCtx) -> c_ulong;
    SSL_CTX_set_options(*mut SslCtx, c_ulong) -> c_ulong;
    SSL_CTX_get_verify_mode(*const SslCtx) -> c_int;
    SSL_CTX_ctrl(*mut SslCtx, c_int, c_long, *mut c_void) -> c_long;
}

/// OpenSSL as the process has it.
pub struct Library {
    functions: Functions,
    /// The kind of our BIOs.
    method: *mut BioMethod,
}

// SAFETY: function pointers and a BIO_METHOD that is complete before it is shared and never changed or freed.
unsafe impl Send for Library {}
// SAFETY: as above.
unsafe impl Sync for Library {}

static LIBRARY: OnceLock<Option<Library>> = OnceLock::new();

/// What is known about the loaded library; the versions that the function table is right for.
const OLDEST: c_ulong = 0x1010_1000;
const AFTER_NEWEST: c_ulong = 0x4000_0000;

impl Library {
    /// The library that the loaded shared object `path` is linked with; found at the first call, then remembered.
    ///
    /// `None` when the object is not loaded or not linked with a libssl of OpenSSL's that is a shared object itself,
    /// or one of a version that nobody has tried.
    pub fn loaded_by(path: &CStr) -> Option<&'static Self> {
        LIBRARY.get_or_init(|| Self::find(path)).as_ref()
    }

    fn find(path: &CStr) -> Option<Self> {
        // SAFETY: loads nothing: a handle for what is loaded, or null. It is never closed, so what dlsym finds through it stays.
        let object = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD) };
        if object.is_null() || cfg!(not(target_pointer_width = "64")) {
            return None;
        }
        let functions = Functions::find(object)?;
        let mut library = Self { functions, method: std::ptr::null_mut() };
        let version = library.version_number();
        if !(OLDEST..AFTER_NEWEST).contains(&version) || !library.version().starts_with("OpenSSL ") {
            return None;
        }
        library.method = channel::method(&library.functions)?;
        Some(library)
    }

    /// As `ssl.OPENSSL_VERSION_NUMBER`.
    pub fn version_number(&self) -> c_ulong {
        // SAFETY: has no preconditions.
        unsafe { (self.functions.OpenSSL_version_num)() }
    }

    /// As `ssl.OPENSSL_VERSION`.
    pub fn version(&self) -> String {
        // SAFETY: answers a static string that ends with a zero.
        unsafe { CStr::from_ptr((self.functions.OpenSSL_version)(0)) }.to_string_lossy().into_owned()
    }

    /// OpenSSL's words for an error of its SSL part; `None` for one of another part.
    fn reason(&self, error: c_ulong) -> Option<String> {
        const ERR_LIB_SSL: c_ulong = 20;
        const FIRST_OF_3: c_ulong = 0x3000_0000;
        // ERR_GET_LIB, a macro: 1.1.1 has 12 bits each for function and reason, 3.0 has 23 for the reason.
        let shift = if self.version_number() >= FIRST_OF_3 { 23 } else { 24 };
        if (error >> shift) & 0xff != ERR_LIB_SSL {
            return None;
        }
        // SAFETY: answers a static string that ends with a zero, or null.
        let text = unsafe { (self.functions.ERR_reason_error_string)(error) };
        // SAFETY: as above.
        (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
    }

    /// What an `SSL` says about itself.
    ///
    /// # Safety
    /// `ssl` points to an `SSL` of this library.
    pub unsafe fn ssl_facts(&self, ssl: *const Ssl) -> SslFacts {
        // SAFETY: passed on to the caller.
        let application_data = unsafe { (self.functions.SSL_get_ex_data)(ssl, 0) };
        // SAFETY: passed on to the caller.
        let context = unsafe { (self.functions.SSL_get_SSL_CTX)(ssl) };
        // SAFETY: passed on to the caller.
        let server_side = unsafe { (self.functions.SSL_is_server)(ssl) } != 0;
        // SAFETY: passed on to the caller.
        let options = unsafe { (self.functions.SSL_get_options)(ssl) };
        SslFacts { application_data, context, server_side, options }
    }

    /// What an `SSL_CTX` says about itself.
    ///
    /// # Safety
    /// `context` points to an `SSL_CTX` of this library.
    pub unsafe fn context_facts(&self, context: *mut SslCtx) -> ContextFacts {
        const GET_MIN_PROTO_VERSION: c_int = 130;
        const GET_MAX_PROTO_VERSION: c_int = 131;
        // SAFETY: passed on to the caller.
        let options = unsafe { (self.functions.SSL_CTX_get_options)(context) };
        // SAFETY: passed on to the caller.
        let verify_mode = unsafe { (self.functions.SSL_CTX_get_verify_mode)(context) };
        // SAFETY: passed on to the caller; this command takes no pointer.
        let oldest = unsafe { (self.functions.SSL_CTX_ctrl)(context, GET_MIN_PROTO_VERSION, 0, std::ptr::null_mut()) };
        // SAFETY: as above.
        let newest = unsafe { (self.functions.SSL_CTX_ctrl)(context, GET_MAX_PROTO_VERSION, 0, std::ptr::null_mut()) };
        ContextFacts { options, verify_mode, oldest, newest }
    }

    /// `SSL_CTX_set_options`.
    ///
    /// # Safety
    /// `context` points to an `SSL_CTX` of this library.
    pub unsafe fn add_context_options(&self, context: *mut SslCtx, options: c_ulong) {
        // SAFETY: passed on to the caller.
        unsafe { (self.functions.SSL_CTX_set_options)(context, options) };
    }
}

/// See `Library::ssl_facts`.
#[derive(Debug)]
pub struct SslFacts {
    pub application_data: *mut c_void,
    pub context: *mut SslCtx,
    pub server_side: bool,
    pub options: c_ulong,
}

/// See `Library::context_facts`.
#[derive(Debug, PartialEq, Eq)]
pub struct ContextFacts {
    pub options: c_ulong,
    pub verify_mode: c_int,
    pub oldest: c_long,
    pub newest: c_long,
}

/// Whether `length` bytes from `address` on can be read, as far as the kernel knows the pages.
pub fn is_mapped(address: usize, length: usize) -> bool {
    // SAFETY: has no preconditions.
    let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
    let Some(end) = address.checked_add(length) else { return false };
    let first = address / page * page;
    // SAFETY: MS_ASYNC writes nothing; pages that are not mapped are ENOMEM, see msync(2).
    address != 0 && unsafe { libc::msync(first as *mut c_void, end - first, libc::MS_ASYNC) } == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_that_is_not_loaded_has_no_library() {
        assert!(Library::find(c"/nowhere/_ssl.so").is_none());
    }

    #[test]
    fn mapped_memory_is_told_from_other() {
        let value = 1_u64;
        assert!(is_mapped(&raw const value as usize, 8));
        assert!(!is_mapped(0, 8));
        assert!(!is_mapped(usize::MAX - 3, 8));
        assert!(!is_mapped(1 << 46, 4096));
    }
}
