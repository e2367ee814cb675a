//! Load client and reference servers of the benchmarks: one thread, epoll, no allocation per message.
//!
//! ```text
//!   ironloop-bench-client load ADDRESS CONNECTIONS SIZE DEPTH WARMUP_S MEASURE_S       prints one line of JSON
//!   ironloop-bench-client load-udp HOST:PORT SOCKETS SIZE WINDOW WARMUP_S MEASURE_S    the same with datagrams
//!   ironloop-bench-client load-http HOST:PORT CONNECTIONS WARMUP_S MEASURE_S           GET / with keep-alive
//!   ironloop-bench-client churn HOST:PORT CONNECTIONS WARMUP_S MEASURE_S               connect, one byte, close
//!   ironloop-bench-client drain|fill HOST:PORT WARMUP_S MEASURE_S                      one stream each way, MiB
//!   ironloop-bench-client hold HOST:PORT CONNECTIONS               one byte each, then idle until its input ends
//!   ironloop-bench-client serve tcp|unix SIZE SPIN_US              prints its port or path, answers until killed; looks for
//!                                                                  events for so long before it blocks
//!   ironloop-bench-client serve udp|http SIZE                      the same, blocks
//! ```
//!
//! An address that starts with a slash is the path of a Unix socket. `load` keeps DEPTH requests of SIZE bytes
//! under way on each connection, and counts complete answers. `begin` is printed when the warm-up is over. Rates count only what was answered inside of the
//! measured time, and an answer that is not what was sent ends the run. `cpu` is the client's own share of a
//! core: near 1.0 the client, not the server, was the limit.

mod bulk;
mod churn;
mod datagram;
mod http;
mod measurement;
mod stream;

use std::time::{Duration, Instant};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let text = |index: usize| arguments.get(index).map_or("", String::as_str);
    let number = |index: usize| text(index).parse::<f64>().expect("a number");
    let load = || (number(2) as usize, number(3) as usize, number(4) as usize, number(5), number(6));
    match text(0) {
        "load" => stream::load(text(1), load()),
        "load-udp" => datagram::load(text(1), load()),
        "load-http" => http::load(text(1), number(2) as usize, number(3), number(4)),
        "churn" => churn::churn(text(1), number(2) as usize, number(3), number(4)),
        "hold" => churn::hold(text(1), number(2) as usize),
        "drain" => bulk::drain(text(1), number(2), number(3)),
        "fill" => bulk::fill(text(1), number(2), number(3)),
        "serve" if text(1) == "http" => http::serve(),
        "serve" if text(1) == "udp" => datagram::serve(number(2) as usize),
        "serve" => stream::serve(text(1) == "unix", number(2) as usize, Duration::from_micros(number(3) as u64)),
        _ => panic!("usage: see the head of benches/client/src/main.rs"),
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

    /// Asks for events again and again for some time, and blocks after that.
    fn spin_and_wait(&self, events: &mut [libc::epoll_event], spin: Duration) -> usize {
        if !spin.is_zero() {
            let start = Instant::now();
            while start.elapsed() < spin {
                let count = self.wait(events, 0);
                if count > 0 {
                    return count;
                }
            }
        }
        self.wait(events, -1)
    }
}

fn would_block(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted)
}

/// Bytes that differ from place to place, so that an answer with anything lost, repeated or moved is noticed.
fn pattern(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9u32;
    let step = |_| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    (0..length).map(step).collect()
}
