//! Connections as the subject: their coming and going, and many that are idle.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::time::Instant;

use crate::measurement::Measurement;
use crate::Epoll;

/// Connects and sends one byte.
fn open(address: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("connect");
    stream.set_nodelay(true).expect("nodelay");
    stream.write_all(&[1]).expect("write");
    stream
}

/// Waits for the byte to come back.
fn finish(stream: &mut TcpStream) {
    let mut byte = [0u8];
    stream.read_exact(&mut byte).expect("read");
    assert_eq!(byte, [1], "another byte came back than was sent");
}

/// Closes with RST instead of TIME_WAIT: the ports of loopback are soon used up otherwise.
fn reset(stream: TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let length = size_of::<libc::linger>() as u32;
    unsafe {
        let option = (&raw const linger).cast();
        libc::setsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, option, length);
    }
    drop(stream);
}

/// Connect, one byte there and back, close; `connections` of these at a time.
pub fn churn(address: &str, connections: usize, warmup: f64, measure: f64) {
    let epoll = Epoll::new();
    let begin = |index: usize| {
        let started = Instant::now();
        let stream = open(address);
        epoll.add(stream.as_raw_fd(), index, libc::EPOLLIN);
        (stream, started)
    };
    let mut all: Vec<(TcpStream, Instant)> = (0..connections).map(begin).collect();
    let mut events = vec![libc::epoll_event { events: 0, u64: 0 }; connections];
    let mut measurement = Measurement::begin(warmup, measure);
    loop {
        let count = epoll.wait(&mut events, 1000);
        if measurement.over(Instant::now()) {
            break;
        }
        for event in &events[..count] {
            let index = event.u64 as usize;
            finish(&mut all[index].0);
            measurement.answered(1, all[index].1.elapsed());
            let (done, _) = std::mem::replace(&mut all[index], begin(index));
            reset(done);
        }
    }
    measurement.report(0);
}

/// Opens connections, each with one byte there and back, says so, and keeps them until standard input ends.
pub fn hold(address: &str, connections: usize) {
    let mut all: Vec<TcpStream> = Vec::with_capacity(connections);
    for _ in 0..connections {
        let mut stream = open(address);
        finish(&mut stream);
        all.push(stream);
    }
    println!("{connections}");
    let _ = std::io::stdin().read(&mut [0u8]);
    all.into_iter().for_each(reset);
}
