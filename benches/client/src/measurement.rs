//! What was answered, and when.

use std::time::{Duration, Instant};

pub struct Measurement {
    from: Instant,
    until: Instant,
    cpu: f64,
    pub running: bool,
    answers: u64,
    latencies: Vec<u32>,
}

impl Measurement {
    /// The warm-up begins now.
    pub fn begin(warmup: f64, measure: f64) -> Self {
        let from = Instant::now() + Duration::from_secs_f64(warmup);
        let until = from + Duration::from_secs_f64(measure);
        Self { from, until, cpu: 0.0, running: false, answers: 0, latencies: Vec::with_capacity(1 << 20) }
    }

    /// Begins to count when the warm-up is over; true when it is all over.
    pub fn over(&mut self, now: Instant) -> bool {
        if !self.running && now >= self.from {
            (self.running, self.cpu) = (true, cpu_seconds());
            println!("begin"); // whoever measures the server looks at its clock now
        }
        now >= self.until
    }

    pub fn answered(&mut self, count: usize, waited: Duration) {
        if self.running {
            self.answers += count as u64;
            if self.latencies.len() < self.latencies.capacity() {
                self.latencies.push(waited.as_nanos().min(u32::MAX as u128) as u32);
            }
        }
    }

    /// Prints the result; `resent` is how many datagrams were given up as lost.
    pub fn report(mut self, resent: u64) {
        let seconds = (Instant::now() - self.from).as_secs_f64();
        self.latencies.sort_unstable();
        let latencies = &self.latencies;
        let percentile =
            |share: f64| latencies.get((latencies.len() as f64 * share) as usize).map_or(0.0, |&ns| ns as f64 / 1e3);
        println!(
            "{{\"rate\": {:.1}, \"p50_us\": {:.1}, \"p99_us\": {:.1}, \"cpu\": {:.3}, \"seconds\": {:.3}, \
             \"count\": {}, \"resent\": {resent}}}",
            self.answers as f64 / seconds,
            percentile(0.5),
            percentile(0.99),
            (cpu_seconds() - self.cpu) / seconds,
            seconds,
            self.answers,
        );
    }
}

fn cpu_seconds() -> f64 {
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &mut usage) };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}
