//! Calls on descriptors of any kind: pipes, terminals, sockets.
//!
//! None of them blocks, as long as the descriptor is non-blocking, which is `set_nonblocking`'s part. EAGAIN
//! comes back as an error for which `would_block()` is true, EINTR never does. A write to a pipe without readers is EPIPE: CPython
//! ignores SIGPIPE, and so does Rust's runtime.
#![expect(unsafe_code, reason = "system calls")]

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::RawFd;

use super::{attempt, check, faults, Result};

/// What a descriptor refers to, as far as pipes transports care.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileKind {
    /// A pipe or a FIFO.
    Pipe,
    Socket,
    /// A terminal, /dev/null and their like.
    Character,
    Other,
}

/// See `FileKind`; fstat(2).
pub fn kind(fd: RawFd) -> Result<FileKind> {
    let mut status = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: the place has the size that the call writes.
    check("fstat", unsafe { libc::fstat(fd, status.as_mut_ptr()) })?;
    // SAFETY: filled by the successful call.
    let mode = unsafe { status.assume_init() }.st_mode;
    Ok(match mode & libc::S_IFMT {
        libc::S_IFIFO => FileKind::Pipe,
        libc::S_IFSOCK => FileKind::Socket,
        libc::S_IFCHR => FileKind::Character,
        _ => FileKind::Other,
    })
}

/// Makes reads and writes return EAGAIN instead of waiting.
pub fn set_nonblocking(fd: RawFd) -> Result<()> {
    // SAFETY: has no preconditions; the kernel checks the descriptor.
    let flags = check("fcntl", unsafe { libc::fcntl(fd, libc::F_GETFL) })?;
    if flags & libc::O_NONBLOCK != 0 {
        return Ok(());
    }
    // SAFETY: as above.
    check("fcntl", unsafe { libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK) }).map(drop)
}

/// Reads up to `buffer.len()` bytes; 0 is the end.
#[inline]
pub fn read(fd: RawFd, buffer: &mut [u8]) -> Result<usize> {
    let length = faults::length("read", fd, buffer.len());
    // SAFETY: the buffer is valid for writes of its length, and `length` is not larger.
    attempt("read", fd, || unsafe { libc::read(fd, buffer.as_mut_ptr().cast(), length) })
}

/// As `read`; the first bytes of `buffer`, as many as are returned, are initialised then.
#[inline]
pub fn read_uninit(fd: RawFd, buffer: &mut [MaybeUninit<u8>]) -> Result<usize> {
    let length = faults::length("read", fd, buffer.len());
    // SAFETY: the buffer is valid for writes of its length, and `length` is not larger.
    attempt("read", fd, || unsafe { libc::read(fd, buffer.as_mut_ptr().cast(), length) })
}

/// Writes a prefix of `data` and says how long it was.
#[inline]
pub fn write(fd: RawFd, data: &[u8]) -> Result<usize> {
    let length = faults::length("write", fd, data.len());
    // SAFETY: the data is valid for reads of its length, and `length` is not larger.
    attempt("write", fd, || unsafe { libc::write(fd, data.as_ptr().cast(), length) })
}

/// Writes a prefix of the parts, in order, with one system call; at most `IOV_MAX` (1024) parts.
pub fn write_vectored(fd: RawFd, parts: &[IoSlice<'_>]) -> Result<usize> {
    let count = faults::length("writev", fd, parts.len());
    // SAFETY: `IoSlice` has the layout of `iovec`; the parts are valid for reads during the call.
    attempt("writev", fd, || unsafe { libc::writev(fd, parts.as_ptr().cast(), count as libc::c_int) })
}

/// Asks for a pipe that holds `bytes` (F_SETPIPE_SZ, fcntl(2)).
///
/// # Errors
/// EPERM above the limits of pipe(7), EBADF for what is no pipe.
#[cfg(target_os = "linux")]
pub fn set_pipe_size(fd: RawFd, bytes: usize) -> Result<()> {
    let bytes = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    // SAFETY: has no preconditions; the kernel checks the descriptor.
    check("fcntl", unsafe { libc::fcntl(fd, libc::F_SETPIPE_SZ, bytes) }).map(drop)
}

/// ENOTSUP: nobody can ask for that here.
#[cfg(not(target_os = "linux"))]
pub fn set_pipe_size(_fd: RawFd, _bytes: usize) -> Result<()> {
    Err(super::Error { operation: "fcntl", errno: libc::ENOTSUP })
}

/// How many bytes can be read now (FIONREAD).
pub fn bytes_available(fd: RawFd) -> Result<usize> {
    let mut count: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int.
    check("ioctl", unsafe { libc::ioctl(fd, libc::FIONREAD, &raw mut count) })?;
    Ok(usize::try_from(count).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn bytes_go_through_a_pipe_until_it_is_full() {
        let (reader, writer) = std::io::pipe().expect("descriptors");
        let (from, to) = (reader.as_raw_fd(), writer.as_raw_fd());
        set_nonblocking(from).expect("a pipe");
        set_nonblocking(to).expect("a pipe");
        set_nonblocking(to).expect("twice is no error");
        let mut buffer = vec![0; 1 << 20];
        assert!(read(from, &mut buffer).is_err_and(|error| error.would_block()));
        assert_eq!(write(to, b"one"), Ok(3));
        assert_eq!(write_vectored(to, &[IoSlice::new(b" two"), IoSlice::new(b" three")]), Ok(10));
        assert_eq!(bytes_available(from), Ok(13));
        assert_eq!(read(from, &mut buffer), Ok(13));
        assert_eq!(&buffer[..13], b"one two three");
        while write(to, &[0; 4096]).is_ok() {}
        assert!(write(to, b"x").is_err_and(|error| error.would_block()));
        drop(reader);
        assert_eq!(write(to, b"x").map_err(|error| error.errno), Err(libc::EPIPE));
    }

    #[test]
    fn a_pipe_can_be_made_larger_while_it_is_in_use() {
        let (reader, writer) = std::io::pipe().expect("descriptors");
        set_nonblocking(writer.as_raw_fd()).expect("a pipe");
        let fill = || {
            let mut total = 0;
            while let Ok(count) = write(writer.as_raw_fd(), &[7; 4096]) {
                total += count;
            }
            total
        };
        let before = fill();
        assert_eq!(set_pipe_size(writer.as_raw_fd(), before * 2), Ok(()));
        assert_eq!(fill(), before);
        assert_eq!(bytes_available(reader.as_raw_fd()), Ok(before * 2));
        let socket = std::os::unix::net::UnixDatagram::unbound().expect("a socket");
        assert!(set_pipe_size(socket.as_raw_fd(), 1 << 16).is_err());
    }

    #[test]
    fn descriptors_have_a_kind() {
        let (reader, writer) = std::io::pipe().expect("descriptors");
        let null = std::fs::File::open("/dev/null").expect("exists");
        let file = std::fs::File::open("/proc/self/exe").expect("exists");
        let socket = std::os::unix::net::UnixDatagram::unbound().expect("a socket");
        assert_eq!(kind(reader.as_raw_fd()), Ok(FileKind::Pipe));
        assert_eq!(kind(null.as_raw_fd()), Ok(FileKind::Character));
        assert_eq!(kind(file.as_raw_fd()), Ok(FileKind::Other));
        assert_eq!(kind(socket.as_raw_fd()), Ok(FileKind::Socket));
        drop(writer);
    }
}
