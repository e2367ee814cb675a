//! Echoes over TCP and Unix streams: requests that are answered with their own bytes.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use crate::measurement::Measurement;
use crate::{pattern, would_block, Epoll};

/// How much of a received piece is compared while it is measured; all of it during the warm-up.
const COMPARED: usize = 4096;
/// How long a server may take to answer every connection once.
const PATIENCE: Duration = Duration::from_secs(10);

pub trait Stream: Read + Write + AsRawFd {
    fn prepare(&self) -> std::io::Result<()>;
}

impl Stream for TcpStream {
    fn prepare(&self) -> std::io::Result<()> {
        self.set_nodelay(true)?;
        self.set_nonblocking(true)
    }
}

impl Stream for UnixStream {
    fn prepare(&self) -> std::io::Result<()> {
        self.set_nonblocking(true)
    }
}

pub fn connect(address: &str) -> Box<dyn Stream> {
    let stream: Box<dyn Stream> = if address.starts_with('/') {
        Box::new(UnixStream::connect(address).expect("connect"))
    } else {
        Box::new(TcpStream::connect(address).expect("connect"))
    };
    stream.prepare().expect("nonblocking");
    stream
}

struct Connection {
    stream: Box<dyn Stream>,
    /// Bytes of the current answer still to come, per request under way.
    missing: usize,
    /// Bytes of requests that the socket did not take yet.
    unsent: usize,
    started: Instant,
    answers: u64,
}

impl Connection {
    /// Begins with the next requests.
    fn ask(&mut self, requests: &[u8], now: Instant) {
        (self.missing, self.unsent, self.started) = (requests.len(), requests.len(), now);
        self.send(requests);
    }

    fn send(&mut self, requests: &[u8]) {
        while self.unsent > 0 {
            match self.stream.write(&requests[requests.len() - self.unsent..]) {
                Ok(count) => self.unsent -= count,
                Err(error) if would_block(&error) => return,
                Err(error) => panic!("write: {error}"),
            }
        }
    }

    /// Takes a piece of the answer; true when the answer is complete.
    fn receive(&mut self, piece: &[u8], requests: &[u8], compared: usize) -> bool {
        assert!(piece.len() <= self.missing, "more bytes came back than were sent");
        let expected = &requests[requests.len() - self.missing..];
        let compared = piece.len().min(compared);
        assert!(piece[..compared] == expected[..compared], "other bytes came back than were sent");
        self.missing -= piece.len();
        self.missing == 0
    }
}

/// The requests of one round on a connection: bytes that differ from place to place, each request ending with its
/// only newline, so that a server may read it by size or by line.
fn lines(size: usize, depth: usize) -> Vec<u8> {
    let mut bytes = pattern(size * depth);
    for byte in bytes.iter_mut().filter(|byte| **byte == b'\n') {
        *byte = 0;
    }
    for end in (size - 1..size * depth).step_by(size) {
        bytes[end] = b'\n';
    }
    bytes
}

pub fn load(address: &str, (connections, size, depth, warmup, measure): (usize, usize, usize, f64, f64)) {
    let mut load = Load::connect(address, connections, lines(size, depth));
    load.until_all_are_served();
    let mut measurement = Measurement::begin(warmup, measure);
    load.ask_all();
    while !measurement.over(Instant::now()) {
        let compared = if measurement.running { COMPARED } else { usize::MAX };
        load.take_answers(compared, |waited| {
            measurement.answered(depth, waited);
            true
        });
    }
    let forgotten = load.all.iter().filter(|connection| connection.answers < 2).count();
    assert!(forgotten == 0, "{forgotten} of {connections} connections were not served any more");
    measurement.report(0);
}

/// All connections, and what goes over them.
struct Load {
    all: Vec<Connection>,
    requests: Vec<u8>,
    epoll: Epoll,
    events: Vec<libc::epoll_event>,
    buffer: Vec<u8>,
}

impl Load {
    fn connect(address: &str, connections: usize, requests: Vec<u8>) -> Self {
        let epoll = Epoll::new();
        let connection = |index| {
            let stream = connect(address);
            epoll.add(stream.as_raw_fd(), index, libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLET);
            Connection { stream, missing: 0, unsent: 0, started: Instant::now(), answers: 0 }
        };
        let all = (0..connections).map(connection).collect();
        let events = vec![libc::epoll_event { events: 0, u64: 0 }; 512];
        Self { all, requests, epoll, events, buffer: vec![0u8; 1 << 20] }
    }

    /// One answer on each connection: a server that accepts slowly, or forgets some, is not measured with fewer of them.
    fn until_all_are_served(&mut self) {
        let (mut left, end) = (self.all.len(), Instant::now() + PATIENCE);
        self.ask_all();
        while left > 0 {
            assert!(Instant::now() < end, "{left} of {} connections had no answer", self.all.len());
            self.take_answers(usize::MAX, |_| {
                left -= 1;
                false
            });
        }
    }

    fn ask_all(&mut self) {
        self.all.iter_mut().for_each(|connection| connection.ask(&self.requests, Instant::now()));
    }

    /// Waits, and takes what has come; whoever is told how long a complete answer took says whether to ask again.
    fn take_answers(&mut self, compared: usize, mut complete: impl FnMut(Duration) -> bool) {
        let count = self.epoll.wait(&mut self.events, 1000);
        for event in &self.events[..count] {
            let connection = &mut self.all[event.u64 as usize];
            loop {
                let count = match connection.stream.read(&mut self.buffer) {
                    Ok(0) => panic!("the server closed a connection"),
                    Ok(count) => count,
                    Err(error) if would_block(&error) => break,
                    Err(error) => panic!("read: {error}"),
                };
                if connection.receive(&self.buffer[..count], &self.requests, compared) {
                    connection.answers += 1;
                    let now = Instant::now();
                    if complete(now - connection.started) {
                        connection.ask(&self.requests, now);
                    }
                }
                if count < self.buffer.len() {
                    break;
                }
            }
            connection.send(&self.requests);
        }
    }
}

/// A connection of the reference server, and what it could not send yet.
type Served = (Box<dyn Stream>, Vec<u8>);
type Accept = Box<dyn Fn() -> std::io::Result<Box<dyn Stream>>>;

/// Listens, and says where; how to accept.
fn listen(unix: bool, epoll: &Epoll) -> Accept {
    if unix {
        let directory = std::env::temp_dir().join(format!("ironloop-bench-{}", std::process::id()));
        std::fs::create_dir(&directory).expect("create directory");
        let listener = UnixListener::bind(directory.join("socket")).expect("bind");
        listener.set_nonblocking(true).expect("nonblocking");
        epoll.add(listener.as_raw_fd(), usize::MAX, libc::EPOLLIN);
        println!("{}", directory.join("socket").display());
        Box::new(move || listener.accept().map(|(stream, _)| Box::new(stream) as Box<dyn Stream>))
    } else {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        listener.set_nonblocking(true).expect("nonblocking");
        epoll.add(listener.as_raw_fd(), usize::MAX, libc::EPOLLIN);
        println!("{}", listener.local_addr().expect("address").port());
        Box::new(move || listener.accept().map(|(stream, _)| Box::new(stream) as Box<dyn Stream>))
    }
}

/// The limit: an echo server with one recv and one send per message.
pub fn serve(unix: bool, size: usize, spin: Duration) {
    let epoll = Epoll::new();
    let accept = listen(unix, &epoll);
    let mut streams: Vec<Option<Served>> = Vec::new();
    let mut events = vec![libc::epoll_event { events: 0, u64: 0 }; 512];
    let mut buffer = vec![0u8; size.max(256 * 1024)];
    loop {
        let count = epoll.spin_and_wait(&mut events, spin);
        for event in &events[..count] {
            if event.u64 == u64::MAX {
                if let Ok(stream) = accept() {
                    stream.prepare().expect("nonblocking");
                    epoll.add(stream.as_raw_fd(), streams.len(), libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLET);
                    streams.push(Some((stream, Vec::new())));
                }
                continue;
            }
            let slot = &mut streams[event.u64 as usize];
            let Some((stream, pending)) = slot else { continue };
            if !pending.is_empty() {
                let count = stream.write(pending).unwrap_or(0);
                pending.drain(..count);
            }
            match stream.read(&mut buffer) {
                Ok(0) => *slot = None,
                Ok(count) if pending.is_empty() => {
                    let sent = stream.write(&buffer[..count]).unwrap_or(0);
                    pending.extend_from_slice(&buffer[sent..count]);
                }
                Ok(count) => pending.extend_from_slice(&buffer[..count]),
                Err(error) if would_block(&error) => {}
                Err(_) => *slot = None,
            }
        }
    }
}
