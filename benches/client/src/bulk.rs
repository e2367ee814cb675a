//! One stream as fast as it goes, in one direction. Counted in MiB.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use crate::measurement::Measurement;
use crate::pattern;

const MIB: usize = 1 << 20;
const PIECE: usize = 256 << 10;

/// Moves pieces until the time is over; `step` returns how many bytes it moved.
fn run(warmup: f64, measure: f64, mut step: impl FnMut() -> usize) {
    let (mut measurement, mut bytes) = (Measurement::begin(warmup, measure), 0);
    loop {
        let started = Instant::now();
        bytes += step();
        let now = Instant::now();
        if measurement.over(now) {
            break;
        }
        measurement.answered(bytes / MIB, now - started);
        bytes %= MIB;
    }
    measurement.report(0);
}

/// Reads what the server sends.
pub fn drain(address: &str, warmup: f64, measure: f64) {
    let mut stream = TcpStream::connect(address).expect("connect");
    let mut buffer = vec![0u8; PIECE];
    run(warmup, measure, || {
        let count = stream.read(&mut buffer).expect("read");
        assert!(count > 0, "the server closed the connection");
        count
    });
}

/// Writes to a server that reads everything. What the socket's buffers hold at the end counts too: a few MiB.
pub fn fill(address: &str, warmup: f64, measure: f64) {
    let mut stream = TcpStream::connect(address).expect("connect");
    let piece = pattern(PIECE);
    run(warmup, measure, || stream.write(&piece).expect("write"));
}
