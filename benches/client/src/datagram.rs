//! UDP.

use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use crate::measurement::Measurement;
use crate::{pattern, would_block, Epoll};

/// A datagram without an answer for so long is sent again.
const LOST_AFTER: Duration = Duration::from_millis(200);
const BATCH: usize = 64;
const NUMBER: usize = size_of::<u64>();

/// One place in the window of a socket.
struct Slot {
    /// Of the datagram under way. The next one in this slot has this number plus the size of the window.
    number: u64,
    started: Instant,
    sent: Instant,
}

struct Peer {
    socket: UdpSocket,
    slots: Vec<Slot>,
}

/// Every datagram is a number, and a stretch of bytes that is different for neighbouring numbers.
struct Contents {
    bytes: Vec<u8>,
    size: usize,
}

impl Contents {
    fn body(&self, number: u64) -> &[u8] {
        &self.bytes[(number % 251) as usize..][..self.size - NUMBER]
    }

    fn fill(&self, number: u64, datagram: &mut [u8]) {
        datagram[..NUMBER].copy_from_slice(&number.to_le_bytes());
        datagram[NUMBER..].copy_from_slice(self.body(number));
    }

    /// The number of an answer, which has to be what was sent.
    fn check(&self, datagram: &[u8]) -> u64 {
        assert_eq!(datagram.len(), self.size, "an answer has another size than the datagram");
        let number = u64::from_le_bytes(datagram[..NUMBER].try_into().expect("eight bytes"));
        assert!(&datagram[NUMBER..] == self.body(number), "other bytes came back than were sent");
        number
    }
}

/// Room for a batch of datagrams, with what the kernel wants to know about it.
struct Batch {
    size: usize,
    bytes: Vec<u8>,
    headers: Vec<libc::mmsghdr>,
    /// The headers point here.
    _parts: Vec<libc::iovec>,
}

impl Batch {
    fn new(size: usize) -> Self {
        let mut bytes = vec![0u8; size * BATCH];
        let mut parts: Vec<libc::iovec> = bytes
            .chunks_exact_mut(size)
            .map(|chunk| libc::iovec { iov_base: chunk.as_mut_ptr().cast(), iov_len: size })
            .collect();
        let header = |part: &mut libc::iovec| {
            let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
            header.msg_hdr.msg_iov = part;
            header.msg_hdr.msg_iovlen = 1;
            header
        };
        let headers = parts.iter_mut().map(header).collect();
        Self { size, bytes, headers, _parts: parts }
    }

    fn datagram(&mut self, index: usize) -> &mut [u8] {
        &mut self.bytes[index * self.size..][..self.size]
    }

    fn receive(&mut self, socket: &UdpSocket) -> usize {
        let (fd, headers) = (socket.as_raw_fd(), self.headers.as_mut_ptr());
        let count = unsafe { libc::recvmmsg(fd, headers, BATCH as u32, 0, std::ptr::null_mut()) };
        settle("recvmmsg", count)
    }

    fn received(&self, index: usize) -> &[u8] {
        &self.bytes[index * self.size..][..self.headers[index].msg_len as usize]
    }

    /// What the socket does not take counts as lost, and is sent again later.
    fn send(&mut self, socket: &UdpSocket, count: usize) {
        if count > 0 {
            let (fd, headers) = (socket.as_raw_fd(), self.headers.as_mut_ptr());
            settle("sendmmsg", unsafe { libc::sendmmsg(fd, headers, count as u32, 0) });
        }
    }
}

fn settle(what: &str, count: i32) -> usize {
    if count < 0 {
        let error = std::io::Error::last_os_error();
        assert!(would_block(&error), "{what}: {error}");
    }
    usize::try_from(count).unwrap_or(0)
}

pub fn load(address: &str, (sockets, size, window, warmup, measure): (usize, usize, usize, f64, f64)) {
    assert!(size > NUMBER && window <= BATCH, "datagrams of more than 8 bytes, windows of at most {BATCH}");
    let contents = Contents { bytes: pattern(size + 256), size };
    // One byte of room more than a datagram needs shows answers that are too long.
    let (mut incoming, mut outgoing) = (Batch::new(size + 1), Batch::new(size));
    let epoll = Epoll::new();
    let mut peers: Vec<Peer> = Vec::new();
    let mut measurement = Measurement::begin(warmup, measure);
    for index in 0..sockets {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("bind");
        socket.connect(address).expect("connect");
        socket.set_nonblocking(true).expect("nonblocking");
        epoll.add(socket.as_raw_fd(), index, libc::EPOLLIN);
        let now = Instant::now();
        let slots: Vec<Slot> = (0..window as u64).map(|number| Slot { number, started: now, sent: now }).collect();
        for slot in &slots {
            contents.fill(slot.number, outgoing.datagram(slot.number as usize));
        }
        outgoing.send(&socket, window);
        peers.push(Peer { socket, slots });
    }
    let mut events = vec![libc::epoll_event { events: 0, u64: 0 }; 512];
    let (mut resent, mut looked) = (0u64, Instant::now());
    loop {
        let count = epoll.wait(&mut events, 50);
        let now = Instant::now();
        if measurement.over(now) {
            break;
        }
        for event in &events[..count] {
            let peer = &mut peers[event.u64 as usize];
            let received = incoming.receive(&peer.socket);
            let now = Instant::now();
            let mut next = 0;
            for index in 0..received {
                let number = contents.check(incoming.received(index));
                let slot = &mut peer.slots[number as usize % window];
                assert!(number <= slot.number, "an answer to a datagram that was not sent");
                if number < slot.number {
                    continue; // sent twice, and answered twice
                }
                measurement.answered(1, now - slot.started);
                *slot = Slot { number: number + window as u64, started: now, sent: now };
                contents.fill(slot.number, outgoing.datagram(next));
                next += 1;
            }
            outgoing.send(&peer.socket, next);
        }
        if now - looked > LOST_AFTER / 4 {
            looked = now;
            let lost: usize = peers.iter_mut().map(|peer| resend(peer, now, &contents, &mut outgoing)).sum();
            resent += if measurement.running { lost as u64 } else { 0 };
        }
    }
    measurement.report(resent);
}

fn resend(peer: &mut Peer, now: Instant, contents: &Contents, outgoing: &mut Batch) -> usize {
    let mut count = 0;
    for slot in &mut peer.slots {
        if now.saturating_duration_since(slot.sent) > LOST_AFTER {
            slot.sent = now;
            contents.fill(slot.number, outgoing.datagram(count));
            count += 1;
        }
    }
    outgoing.send(&peer.socket, count);
    count
}

/// The limit: one recvfrom and one sendto per datagram.
pub fn serve(size: usize) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("bind");
    let room = 1i32 << 20;
    unsafe {
        let option = (&raw const room).cast();
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVBUF, option, size_of::<i32>() as u32);
    }
    socket.set_nonblocking(true).expect("nonblocking");
    println!("{}", socket.local_addr().expect("address").port());
    let epoll = Epoll::new();
    epoll.add(socket.as_raw_fd(), 0, libc::EPOLLIN);
    let mut events = [libc::epoll_event { events: 0, u64: 0 }; 1];
    let mut buffer = vec![0u8; size + 1];
    loop {
        epoll.wait(&mut events, -1);
        while let Ok((count, peer)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..count], peer);
        }
    }
}
