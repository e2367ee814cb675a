//! `Error`: which system call failed, and its `errno`.
//!
//! Every function of the engine that can fail returns it; it is made where the call is made, before anything can
//! overwrite `errno`. Only `py/error.rs` makes Python exceptions of it.

use std::fmt;

/// What engine functions return.
pub type Result<T> = std::result::Result<T, Error>;

/// A failed system call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// The call's name, as in its manual page.
    pub operation: &'static str,
    pub errno: i32,
}

impl Error {
    /// The error that the calling thread's last system call left.
    pub fn last(operation: &'static str) -> Self {
        Self { operation, errno: std::io::Error::last_os_error().raw_os_error().unwrap_or(0) }
    }

    /// Try again when the descriptor is ready: nothing is wrong.
    pub fn would_block(&self) -> bool {
        self.errno == libc::EAGAIN
    }

    /// The process or the system has run out of something: try again later.
    pub fn out_of_descriptors_or_memory(&self) -> bool {
        matches!(self.errno, libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.operation, std::io::Error::from_raw_os_error(self.errno))
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_names_the_call_and_the_reason() {
        let error = Error { operation: "send", errno: libc::EPIPE };
        assert_eq!(error.to_string(), "send: Broken pipe (os error 32)");
    }

    #[test]
    fn an_unready_call_would_block() {
        assert!(Error { operation: "recv", errno: libc::EAGAIN }.would_block());
        for errno in [libc::EINTR, libc::ECONNRESET] {
            assert!(!Error { operation: "recv", errno }.would_block());
        }
    }
}
