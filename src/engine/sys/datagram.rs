//! Datagrams: one per system call, or many (recvmmsg(2), sendmmsg(2)).
//!
//! `ReceiveBatch` owns the memory that the kernel fills; it is lent to one receive at a time and read
//! before the next one. None of the calls blocks, since all our sockets are non-blocking.
#![expect(unsafe_code, reason = "system calls and the pointers that they take")]

use std::mem::MaybeUninit;
use std::os::fd::RawFd;
use std::ptr;

use super::addr::SocketAddress;
use super::{attempt, faults, system, Result};

/// Datagrams per system call at the most.
pub const MOST_MESSAGES: usize = 32;
/// All slots together. The kernel maps pages only where it has written, so small datagrams cost little of it.
const MEMORY_BYTES: usize = MOST_MESSAGES * LARGEST_INTERNET;
/// No datagram of UDP is larger, RFC 768.
pub const LARGEST_INTERNET: usize = 64 * 1024;
/// What asyncio receives of a datagram at the most, and larger than Unix sockets send by default.
pub const LARGEST_LOCAL: usize = 256 * 1024;

/// Where up to `MOST_MESSAGES` datagrams are received.
pub struct ReceiveBatch {
    memory: Box<[u8]>,
    senders: Box<[SocketAddress]>,
    parts: Box<[libc::iovec]>,
    headers: Box<[system::mmsghdr]>,
    slot_bytes: usize,
    received: usize,
}

// SAFETY: the pointers in `parts` and `headers` point into the boxes of the same batch, which move with it.
unsafe impl Send for ReceiveBatch {}

impl Default for ReceiveBatch {
    fn default() -> Self {
        Self::new()
    }
}

impl ReceiveBatch {
    pub fn new() -> Self {
        // SAFETY: all zeroes is a valid iovec and a valid mmsghdr.
        let (part, header) = unsafe { (MaybeUninit::zeroed().assume_init(), MaybeUninit::zeroed().assume_init()) };
        let mut batch = Self {
            memory: vec![0; MEMORY_BYTES].into_boxed_slice(),
            senders: vec![SocketAddress::unspecified(); MOST_MESSAGES].into_boxed_slice(),
            parts: vec![part; MOST_MESSAGES].into_boxed_slice(),
            headers: vec![header; MOST_MESSAGES].into_boxed_slice(),
            slot_bytes: 0,
            received: 0,
        };
        batch.lay_out(LARGEST_INTERNET);
        batch
    }

    /// Cuts the memory into slots of `slot_bytes`.
    fn lay_out(&mut self, slot_bytes: usize) {
        self.slot_bytes = slot_bytes;
        self.received = 0;
        for (index, slot) in self.memory.chunks_exact_mut(slot_bytes).take(MOST_MESSAGES).enumerate() {
            self.parts[index] = libc::iovec { iov_base: slot.as_mut_ptr().cast(), iov_len: slot.len() };
            let header = &mut self.headers[index].msg_hdr;
            header.msg_iov = &raw mut self.parts[index];
            header.msg_iovlen = 1;
            let (place, room) = self.senders[index].place();
            header.msg_name = place.cast();
            header.msg_namelen = room;
        }
    }

    /// Receives what is there, up to `slot_bytes` of each datagram (the rest of a larger one is lost).
    ///
    /// Returns how many came. Fewer than `capacity` means that there are no more now, or that an error waits.
    ///
    /// # Errors
    /// Of the first datagram: EAGAIN, or what an earlier send has led to, such as ECONNREFUSED.
    pub fn receive(&mut self, fd: RawFd, slot_bytes: usize) -> Result<usize> {
        if self.slot_bytes != slot_bytes {
            self.lay_out(slot_bytes);
        }
        // The kernel has put the lengths of the last senders there.
        for index in 0..self.received {
            self.headers[index].msg_hdr.msg_namelen = self.senders[index].place().1;
        }
        self.received = 0;
        let capacity = faults::length("recvmmsg", fd, self.capacity()) as libc::c_uint;
        let headers = self.headers.as_mut_ptr();
        // SAFETY: the headers, and the memory and addresses that they point to, are valid for writes:
        // they belong to this batch, which is borrowed for the call.
        let receive = || unsafe { system::recvmmsg(fd, headers, capacity, 0, ptr::null_mut()) };
        self.received = attempt("recvmmsg", fd, || receive() as libc::ssize_t)?;
        for index in 0..self.received {
            self.senders[index].set_length(self.headers[index].msg_hdr.msg_namelen);
        }
        Ok(self.received)
    }

    /// How many datagrams one receive takes.
    pub fn capacity(&self) -> usize {
        (MEMORY_BYTES / self.slot_bytes).min(MOST_MESSAGES)
    }

    /// What the last receive brought, in order: data, and the sender unless it has no name.
    pub fn messages(&self) -> impl Iterator<Item = (&[u8], Option<&SocketAddress>)> {
        let slots = self.memory.chunks_exact(self.slot_bytes);
        slots.zip(&*self.headers).zip(&*self.senders).take(self.received).map(|((slot, header), sender)| {
            let length = (header.msg_len as usize).min(slot.len());
            (&slot[..length], (!sender.is_empty()).then_some(sender))
        })
    }
}

/// Sends one datagram, to `receiver` or to the socket's peer.
pub fn send_to(fd: RawFd, data: &[u8], receiver: Option<&SocketAddress>) -> Result<usize> {
    let (address, length) = receiver.map_or((ptr::null(), 0), SocketAddress::as_raw);
    // SAFETY: data and address are valid for reads of their lengths.
    let send = || unsafe { libc::sendto(fd, data.as_ptr().cast(), data.len(), libc::MSG_NOSIGNAL, address, length) };
    attempt("sendto", fd, send)
}

/// Sends the first of `messages`, in order, up to `MOST_MESSAGES`; returns how many.
///
/// # Errors
/// Of the first datagram. When a later one fails the count ends before it, and its error comes with the next call.
pub fn send_batch<'a>(
    fd: RawFd,
    messages: impl Iterator<Item = (&'a [u8], Option<&'a SocketAddress>)>,
) -> Result<usize> {
    let mut parts = [libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }; MOST_MESSAGES];
    // SAFETY: all zeroes is a valid mmsghdr.
    let mut headers: [system::mmsghdr; MOST_MESSAGES] = unsafe { MaybeUninit::zeroed().assume_init() };
    let mut count = 0;
    for ((data, receiver), (part, header)) in messages.zip(parts.iter_mut().zip(&mut headers)) {
        *part = libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() };
        header.msg_hdr.msg_iov = part;
        header.msg_hdr.msg_iovlen = 1;
        if let Some(receiver) = receiver {
            let (address, length) = receiver.as_raw();
            header.msg_hdr.msg_name = address.cast_mut().cast();
            header.msg_hdr.msg_namelen = length;
        }
        count += 1;
    }
    let count = faults::length("sendmmsg", fd, count) as libc::c_uint;
    // SAFETY: the first `count` headers are filled; data and addresses outlive the call, which only reads them.
    let mut send = || unsafe { system::sendmmsg(fd, headers.as_mut_ptr(), count, libc::MSG_NOSIGNAL as _) };
    attempt("sendmmsg", fd, || send() as libc::ssize_t)
}

#[cfg(test)]
mod tests {
    use super::super::addr::Decoded;
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixDatagram;

    fn received(batch: &ReceiveBatch) -> Vec<Vec<u8>> {
        batch.messages().map(|(data, _)| data.to_vec()).collect()
    }

    #[test]
    fn datagrams_come_in_order_with_their_sender() {
        let receiver = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
        let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
        receiver.set_nonblocking(true).expect("a socket");
        let port = |socket: &UdpSocket| socket.local_addr().expect("bound").port();
        let mut batch = ReceiveBatch::new();
        assert!(batch.receive(receiver.as_raw_fd(), LARGEST_INTERNET).is_err_and(|error| error.would_block()));
        assert_eq!(received(&batch), Vec::<Vec<u8>>::new());
        let target = SocketAddress::v4(Ipv4Addr::LOCALHOST, port(&receiver));
        let messages = [b"one".as_slice(), b"", b"three"];
        let sent = send_batch(sender.as_raw_fd(), messages.iter().map(|data| (*data, Some(&target))));
        assert_eq!(sent, Ok(3));
        assert_eq!(send_to(sender.as_raw_fd(), b"four", Some(&target)), Ok(4));
        assert_eq!(batch.receive(receiver.as_raw_fd(), LARGEST_INTERNET), Ok(4));
        assert_eq!(received(&batch), [b"one".to_vec(), Vec::new(), b"three".to_vec(), b"four".to_vec()]);
        let expected = Decoded::V4 { address: Ipv4Addr::LOCALHOST, port: port(&sender) };
        assert!(batch.messages().all(|(_, sender)| sender.is_some_and(|address| address.decode() == expected)));
    }

    #[test]
    fn a_batch_serves_sockets_of_different_families() {
        let mut batch = ReceiveBatch::new();
        let six = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).expect("loopback");
        six.set_nonblocking(true).expect("a socket");
        let target = SocketAddress::v6(Ipv6Addr::LOCALHOST, six.local_addr().expect("bound").port(), 0, 0);
        assert_eq!(send_to(six.as_raw_fd(), b"six", Some(&target)), Ok(3));
        assert_eq!(batch.receive(six.as_raw_fd(), LARGEST_INTERNET), Ok(1));
        assert!(batch.messages().all(|(_, sender)| sender == Some(&target)));
        let (left, right) = UnixDatagram::pair().expect("descriptors");
        right.set_nonblocking(true).expect("a socket");
        assert_eq!(send_to(left.as_raw_fd(), b"local", None), Ok(5));
        assert_eq!(batch.receive(right.as_raw_fd(), LARGEST_LOCAL), Ok(1));
        assert_eq!(batch.messages().collect::<Vec<_>>(), [(b"local".as_slice(), None)]);
        assert_eq!(batch.capacity(), MEMORY_BYTES / LARGEST_LOCAL);
    }

    #[test]
    fn more_than_a_batch_is_received_in_turns() {
        let (left, right) = UnixDatagram::pair().expect("descriptors");
        left.set_nonblocking(true).expect("a socket");
        right.set_nonblocking(true).expect("a socket");
        let mut batch = ReceiveBatch::new();
        let mut sent = 0_u32;
        while send_to(left.as_raw_fd(), &sent.to_be_bytes(), None).is_ok() {
            sent += 1;
        }
        let mut seen = Vec::new();
        while let Ok(count) = batch.receive(right.as_raw_fd(), LARGEST_LOCAL) {
            assert!(count <= batch.capacity());
            seen.extend(received(&batch));
        }
        assert_eq!(seen, (0..sent).map(|number| number.to_be_bytes().to_vec()).collect::<Vec<_>>());
    }

    #[test]
    fn a_failing_datagram_ends_a_batch_and_leads_the_next_one() {
        let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
        let target = SocketAddress::v4(Ipv4Addr::LOCALHOST, sender.local_addr().expect("bound").port());
        let huge = vec![0; 100_000];
        let messages = [b"fits".as_slice(), &huge, b"fits too"];
        let offer =
            |from: usize| send_batch(sender.as_raw_fd(), messages[from..].iter().map(|data| (*data, Some(&target))));
        assert_eq!(offer(0), Ok(1));
        assert_eq!(offer(1).map_err(|error| error.errno), Err(libc::EMSGSIZE));
        assert_eq!(offer(2), Ok(1));
    }
}
