//! HTTP/1.1 with keep-alive, as far as a load client needs it: answers have a status of 200 and a Content-Length.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Instant;

use crate::measurement::Measurement;
use crate::{would_block, Epoll};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n";
const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 13\r\n\r\nHello, world!";
const BODY: &[u8] = b"Hello, world!";
const END: &[u8] = b"\r\n\r\n";

struct Connection {
    stream: TcpStream,
    answer: Vec<u8>,
    started: Instant,
}

impl Connection {
    fn ask(&mut self) {
        self.started = Instant::now();
        self.stream.write_all(REQUEST).expect("a request fits into an empty socket");
    }

    /// Reads what has come; true when the answer is complete.
    fn receive(&mut self, buffer: &mut [u8]) -> bool {
        match self.stream.read(buffer) {
            Ok(0) => panic!("the server closed a connection"),
            Ok(count) => self.answer.extend_from_slice(&buffer[..count]),
            Err(error) if would_block(&error) => return false,
            Err(error) => panic!("read: {error}"),
        }
        let Some(head) = position(&self.answer, END) else { return false };
        let length = head + END.len() + content_length(&self.answer[..head]);
        if self.answer.len() < length {
            return false;
        }
        assert!(self.answer.len() == length, "more came back than one answer");
        assert!(self.answer.ends_with(BODY), "another body than was expected");
        self.answer.clear();
        true
    }
}

fn position(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

fn content_length(head: &[u8]) -> usize {
    let head = std::str::from_utf8(head).expect("a head of ASCII");
    assert!(head.starts_with("HTTP/1.1 200 "), "another status than 200: {head}");
    let lines = head.lines().filter_map(|line| line.split_once(':'));
    let found = lines.into_iter().find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    found.and_then(|(_, value)| value.trim().parse().ok()).expect("a Content-Length")
}

pub fn load(address: &str, connections: usize, warmup: f64, measure: f64) {
    let epoll = Epoll::new();
    let open = |index: usize| {
        let stream = TcpStream::connect(address).expect("connect");
        stream.set_nodelay(true).expect("nodelay");
        stream.set_nonblocking(true).expect("nonblocking");
        epoll.add(stream.as_raw_fd(), index, libc::EPOLLIN);
        Connection { stream, answer: Vec::new(), started: Instant::now() }
    };
    let mut all: Vec<Connection> = (0..connections).map(open).collect();
    all.iter_mut().for_each(Connection::ask);
    let mut events = vec![libc::epoll_event { events: 0, u64: 0 }; 512];
    let mut buffer = vec![0u8; 1 << 16];
    let mut measurement = Measurement::begin(warmup, measure);
    loop {
        let count = epoll.wait(&mut events, 1000);
        if measurement.over(Instant::now()) {
            break;
        }
        for event in &events[..count] {
            let connection = &mut all[event.u64 as usize];
            if connection.receive(&mut buffer) {
                measurement.answered(1, connection.started.elapsed());
                connection.ask();
            }
        }
    }
    measurement.report(0);
}

/// The limit: looks for the end of a request and sends a fixed answer.
pub fn serve() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let epoll = Epoll::new();
    epoll.add(listener.as_raw_fd(), usize::MAX, libc::EPOLLIN);
    println!("{}", listener.local_addr().expect("address").port());
    let mut streams: Vec<Option<TcpStream>> = Vec::new();
    let mut events = vec![libc::epoll_event { events: 0, u64: 0 }; 512];
    let mut buffer = vec![0u8; 1 << 16];
    loop {
        let count = epoll.wait(&mut events, -1);
        for event in &events[..count] {
            if event.u64 == u64::MAX {
                let (stream, _) = listener.accept().expect("accept");
                stream.set_nodelay(true).expect("nodelay");
                epoll.add(stream.as_raw_fd(), streams.len(), libc::EPOLLIN);
                streams.push(Some(stream));
                continue;
            }
            let slot = &mut streams[event.u64 as usize];
            let Some(stream) = slot else { continue };
            match stream.read(&mut buffer) {
                Ok(count) if count > 0 => {
                    assert!(buffer[..count].ends_with(END), "a request in pieces");
                    stream.write_all(ANSWER).expect("write");
                }
                _ => *slot = None,
            }
        }
    }
}
