//! Load client and reference server of the benchmarks: one thread, epoll, no allocation per message.
//!
//! ```text
//!   ironloop-bench-client load HOST:PORT CONNECTIONS SIZE DEPTH WARMUP_S MEASURE_S     prints one line of JSON
//!   ironloop-bench-client churn HOST:PORT WARMUP_S MEASURE_S                          connections per second
//!   ironloop-bench-client serve SIZE                                                  prints its port, echoes until killed
//! ```
//!
//! `load` keeps DEPTH requests of SIZE bytes under way on each connection and counts complete answers.
//! Rates count only what was answered inside of the measured time. `cpu` is the client's own share of a
//! core: near 1.0 the client, not the server, was the limit.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

struct Connection {
    stream: TcpStream,
    /// Bytes of the current answer still to come, per request under way.
    missing: usize,
    /// Bytes of requests that the socket did not take yet.
    unsent: usize,
    started: Instant,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |index: usize| arguments[index].parse::<f64>().expect("a number");
    match arguments.first().map(String::as_str) {
        Some("load") => load(&arguments[1], number(2) as usize, number(3) as usize, number(4) as usize, number(5), number(6)),
        Some("churn") => churn(&arguments[1], number(2), number(3)),
        Some("serve") => serve(number(1) as usize),
        _ => panic!("usage: load HOST:PORT CONNECTIONS SIZE DEPTH WARMUP_S MEASURE_S | churn HOST:PORT WARMUP_S MEASURE_S | serve SIZE"),
    }
}

struct Epoll(i32);

impl Epoll {
    fn new() -> Self {
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        assert!(fd >= 0, "epoll_create1");
        Self(fd)
    }

    fn add(&self, fd: i32, data: usize, events: i32) {
        let mut event = libc::epoll_event { events: events as u32, u64: data as u64 };
        assert_eq!(unsafe { libc::epoll_ctl(self.0, libc::EPOLL_CTL_ADD, fd, &mut event) }, 0, "epoll_ctl");
    }

    fn wait(&self, events: &mut [libc::epoll_event], timeout_ms: i32) -> usize {
        let count = unsafe { libc::epoll_wait(self.0, events.as_mut_ptr(), events.len() as i32, timeout_ms) };
        usize::try_from(count).unwrap_or(0)
    }
}

fn cpu_seconds() -> f64 {
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &mut usage) };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

fn would_block(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted)
}

impl Connection {
    fn send(&mut self, requests: &[u8]) {
        while self.unsent > 0 {
            match self.stream.write(&requests[requests.len() - self.unsent..]) {
                Ok(count) => self.unsent -= count,
                Err(error) if would_block(&error) => return,
                Err(error) => panic!("write: {error}"),
            }
        }
    }
}

fn load(address: &str, connections: usize, size: usize, depth: usize, warmup: f64, measure: f64) {
    let requests = vec![b'x'; size * depth];
    let epoll = Epoll::new();
    let mut all: Vec<Connection> = Vec::new();
    for index in 0..connections {
        let stream = TcpStream::connect(address).expect("connect");
        stream.set_nodelay(true).expect("nodelay");
        stream.set_nonblocking(true).expect("nonblocking");
        epoll.add(stream.as_raw_fd(), index, libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLET);
        all.push(Connection { stream, missing: size * depth, unsent: size * depth, started: Instant::now() });
    }
    for connection in &mut all {
        connection.started = Instant::now();
        connection.send(&requests);
    }
    let mut events = vec![libc::epoll_event { events: 0, u64: 0 }; 512];
    let mut buffer = vec![0u8; 1 << 20];
    let begin = Instant::now();
    let from = begin + Duration::from_secs_f64(warmup);
    let until = from + Duration::from_secs_f64(measure);
    let mut answers = 0u64;
    let mut latencies: Vec<u32> = Vec::with_capacity(1 << 20);
    let mut cpu = 0.0;
    let mut measuring = false;
    let end = loop {
        let count = epoll.wait(&mut events, 1000);
        let now = Instant::now();
        if !measuring && now >= from {
            (measuring, cpu) = (true, cpu_seconds());
        }
        if now >= until {
            break now;
        }
        for event in &events[..count] {
            let connection = &mut all[event.u64 as usize];
            loop {
                let count = match connection.stream.read(&mut buffer) {
                    Ok(0) => panic!("the server closed a connection"),
                    Ok(count) => count,
                    Err(error) if would_block(&error) => break,
                    Err(error) => panic!("read: {error}"),
                };
                connection.missing -= count;
                if connection.missing == 0 {
                    let now = Instant::now();
                    if measuring {
                        answers += depth as u64;
                        if latencies.len() < latencies.capacity() {
                            latencies.push((now - connection.started).as_nanos().min(u32::MAX as u128) as u32);
                        }
                    }
                    connection.missing = size * depth;
                    connection.unsent = size * depth;
                    connection.started = now;
                    connection.send(&requests);
                }
                if count < buffer.len() {
                    break;
                }
            }
            connection.send(&requests);
        }
    };
    let seconds = (end - from).as_secs_f64();
    latencies.sort_unstable();
    let percentile = |share: f64| latencies.get((latencies.len() as f64 * share) as usize).map_or(0.0, |&ns| ns as f64 / 1e3);
    println!(
        "{{\"rate\": {:.1}, \"p50_us\": {:.1}, \"p99_us\": {:.1}, \"cpu\": {:.3}, \"seconds\": {:.3}, \"count\": {}}}",
        answers as f64 / seconds,
        percentile(0.5),
        percentile(0.99),
        (cpu_seconds() - cpu) / seconds,
        seconds,
        answers
    );
}

/// Connect, one byte there and back, close.
fn churn(address: &str, warmup: f64, measure: f64) {
    let begin = Instant::now();
    let from = begin + Duration::from_secs_f64(warmup);
    let until = from + Duration::from_secs_f64(measure);
    let (mut count, mut cpu, mut measuring) = (0u64, 0.0, false);
    let end = loop {
        let mut stream = TcpStream::connect(address).expect("connect");
        let _ = stream.set_nodelay(true);
        let mut byte = [1u8];
        stream.write_all(&byte).expect("write");
        stream.read_exact(&mut byte).expect("read");
        // RST instead of TIME_WAIT: the ports of loopback are soon used up otherwise.
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        unsafe {
            libc::setsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, (&raw const linger).cast(), size_of::<libc::linger>() as u32);
        }
        drop(stream);
        let now = Instant::now();
        if !measuring && now >= from {
            (measuring, cpu) = (true, cpu_seconds());
        }
        if now >= until {
            break now;
        }
        count += u64::from(measuring);
    };
    let seconds = (end - from).as_secs_f64();
    println!("{{\"rate\": {:.1}, \"cpu\": {:.3}, \"count\": {count}}}", count as f64 / seconds, (cpu_seconds() - cpu) / seconds);
}

/// The limit: a level-triggered echo server with one recv and one send per message.
fn serve(size: usize) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    listener.set_nonblocking(true).expect("nonblocking");
    println!("{}", listener.local_addr().expect("address").port());
    let epoll = Epoll::new();
    epoll.add(listener.as_raw_fd(), usize::MAX, libc::EPOLLIN);
    let mut streams: Vec<Option<(TcpStream, Vec<u8>)>> = Vec::new();
    let mut events = vec![libc::epoll_event { events: 0, u64: 0 }; 512];
    let mut buffer = vec![0u8; size.max(256 * 1024)];
    loop {
        let count = epoll.wait(&mut events, -1);
        for event in &events[..count] {
            if event.u64 == u64::MAX {
                if let Ok((stream, _)) = listener.accept() {
                    stream.set_nodelay(true).expect("nodelay");
                    stream.set_nonblocking(true).expect("nonblocking");
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
