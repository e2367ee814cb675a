//! A queue of jobs, and the workers that wait for them.
//!
//! ```text
//!   push -> wakes one worker, unless one is coming already
//!   next -> a worker takes a job, and wakes another one if there are more
//! ```
//!
//! Workers are threads of the caller's, which are needed when there are more jobs than workers without one: the queue
//! only counts them. A worker takes its job when it can run it, not when it is woken: one that has to wait for the
//! interpreter holds nothing up, and a burst of short jobs is done by the worker that is running anyway. The worker that
//! became idle last is woken first: its stack is still in the cache.
//!
//! Only what happens for certain is counted: a worker that was woken comes, one that was started arrives. The lock is
//! never held while somebody waits. Nothing here runs a job.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};

/// See the module's documentation.
pub struct Pool<J> {
    state: Mutex<State<J>>,
    max_workers: usize,
}

struct State<J> {
    jobs: VecDeque<J>,
    idle: Vec<Arc<Worker>>,
    /// Workers that were woken and have not asked for a job since.
    coming: usize,
    /// Workers that were started, as far as we were told, and those that have asked for their first job.
    started: usize,
    arrived: usize,
    ended: bool,
}

/// A thread that takes jobs.
pub struct Worker {
    thread: Thread,
    woken: AtomicBool,
}

/// How a worker comes to ask for a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    Start,
    Wait,
    Job,
}

impl Worker {
    /// The calling thread.
    pub fn current() -> Arc<Self> {
        Arc::new(Self { thread: thread::current(), woken: AtomicBool::new(false) })
    }

    /// Waits until the pool wakes the worker, which it does for a job and at its end.
    pub fn wait(&self) {
        while !self.woken.swap(false, Ordering::Acquire) {
            thread::park();
        }
    }

    fn wake(&self) {
        self.woken.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

/// What a worker does next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<J> {
    Run(J),
    /// It counts as idle from now on and has to `wait`.
    Wait,
    /// No job will come any more.
    End,
}

/// Why a job was not taken.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused<J> {
    /// Another worker has to be started first, see `worker_started`.
    WorkerNeeded(J),
    Ended(J),
}

impl<J> Pool<J> {
    pub const fn new(max_workers: usize) -> Self {
        let state = State { jobs: VecDeque::new(), idle: Vec::new(), coming: 0, started: 0, arrived: 0, ended: false };
        Self { state: Mutex::new(state), max_workers }
    }

    fn state(&self) -> MutexGuard<'_, State<J>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a job.
    ///
    /// # Errors
    /// The job, if the pool has ended, or needs a worker more.
    pub fn push(&self, job: J) -> Result<(), Refused<J>> {
        let state = self.state();
        if state.lacks_worker(self.max_workers) {
            return Err(Refused::WorkerNeeded(job));
        }
        self.add(state, job)
    }

    /// Adds a job that waits until there is a worker for it.
    ///
    /// # Errors
    /// The job, if the pool has ended.
    pub fn push_anyway(&self, job: J) -> Result<(), Refused<J>> {
        self.add(self.state(), job)
    }

    fn add(&self, mut state: MutexGuard<'_, State<J>>, job: J) -> Result<(), Refused<J>> {
        if state.ended {
            return Err(Refused::Ended(job));
        }
        state.jobs.push_back(job);
        let worker = state.worker_to_wake();
        drop(state);
        if let Some(worker) = worker {
            worker.wake();
        }
        Ok(())
    }

    /// Whether one more job would need a worker more.
    pub fn lacks_worker(&self) -> bool {
        self.state().lacks_worker(self.max_workers)
    }

    /// The caller has started a worker.
    pub fn worker_started(&self) {
        self.state().started += 1;
    }

    /// What the worker does now.
    pub fn next(&self, worker: &Arc<Worker>, after: After) -> Next<J> {
        let mut state = self.state();
        match after {
            After::Start => state.arrived += 1,
            After::Wait => state.coming -= 1,
            After::Job => {}
        }
        let Some(job) = state.jobs.pop_front() else {
            if state.ended {
                return Next::End;
            }
            state.idle.push(Arc::clone(worker));
            return Next::Wait;
        };
        let another = if state.jobs.is_empty() { None } else { state.worker_to_wake() };
        drop(state);
        if let Some(another) = another {
            another.wake();
        }
        Next::Run(job)
    }

    /// A job that no worker has taken, to be cancelled.
    pub fn take(&self) -> Option<J> {
        self.state().jobs.pop_front()
    }

    /// No job is taken any more. The workers do what there is, and end.
    pub fn end(&self) {
        let mut state = self.state();
        state.ended = true;
        let idle = std::mem::take(&mut state.idle);
        state.coming += idle.len();
        drop(state);
        for worker in idle {
            worker.wake();
        }
    }

    /// Jobs that no worker has taken, and workers that are at work on one.
    pub fn load(&self) -> (usize, usize) {
        let state = self.state();
        (state.jobs.len(), state.arrived.saturating_sub(state.idle.len() + state.coming))
    }

    /// Shows the jobs that wait; `None` when that would have to wait.
    pub fn visit<R>(&self, body: impl FnOnce(&VecDeque<J>) -> R) -> Option<R> {
        self.state.try_lock().ok().map(|state| body(&state.jobs))
    }

    /// All jobs that no worker has taken.
    pub fn clear(&self) -> VecDeque<J> {
        std::mem::take(&mut self.state().jobs)
    }
}

impl<J> State<J> {
    fn lacks_worker(&self, max_workers: usize) -> bool {
        let under_way = self.started.saturating_sub(self.arrived);
        let workers = self.started.max(self.arrived);
        self.jobs.len() >= self.idle.len() + self.coming + under_way && workers < max_workers && !self.ended
    }

    /// One is enough: it wakes the next when it has come.
    fn worker_to_wake(&mut self) -> Option<Arc<Worker>> {
        if self.coming > 0 {
            return None;
        }
        let worker = self.idle.pop();
        self.coming += usize::from(worker.is_some());
        worker
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// A pool with one worker that has become idle.
    fn with_idle_worker() -> (Pool<u32>, Arc<Worker>) {
        let (pool, worker) = (Pool::new(2), Worker::current());
        pool.worker_started();
        assert_eq!(pool.next(&worker, After::Start), Next::Wait);
        (pool, worker)
    }

    #[test]
    fn the_first_job_needs_a_worker() {
        let pool = Pool::new(1);
        assert_eq!(pool.push(1), Err(Refused::WorkerNeeded(1)));
        pool.worker_started();
        assert!(!pool.lacks_worker());
        assert_eq!(pool.push(1), Ok(()));
        assert_eq!(pool.push(2), Ok(()));
        let worker = Worker::current();
        assert_eq!(pool.next(&worker, After::Start), Next::Run(1));
        assert_eq!(pool.next(&worker, After::Job), Next::Run(2));
        assert_eq!(pool.next(&worker, After::Job), Next::Wait);
    }

    #[test]
    fn an_idle_worker_is_enough_for_one_job() {
        let (pool, worker) = with_idle_worker();
        assert_eq!(pool.push(1), Ok(()));
        assert_eq!(pool.push(2), Err(Refused::WorkerNeeded(2)));
        worker.wait();
        assert_eq!(pool.next(&worker, After::Wait), Next::Run(1));
    }

    #[test]
    fn a_busy_worker_is_none_for_the_next_job() {
        let (pool, worker) = with_idle_worker();
        assert_eq!(pool.push(1), Ok(()));
        worker.wait();
        assert_eq!(pool.next(&worker, After::Wait), Next::Run(1));
        assert_eq!(pool.push(2), Err(Refused::WorkerNeeded(2)));
    }

    #[test]
    fn a_worker_whose_start_was_never_told_is_one_all_the_same() {
        let (pool, worker) = (Pool::new(1), Worker::current());
        assert_eq!(pool.next(&worker, After::Start), Next::Wait);
        assert_eq!(pool.push(1), Ok(()));
        worker.wait();
        assert_eq!(pool.next(&worker, After::Wait), Next::Run(1));
        assert!(!pool.lacks_worker());
        assert_eq!(pool.push(2), Ok(()));
    }

    #[test]
    fn a_job_may_wait_for_a_worker_that_is_yet_to_be_started() {
        let (pool, worker) = (Pool::new(1), Worker::current());
        assert_eq!(pool.push_anyway(1), Ok(()));
        assert!(pool.lacks_worker());
        assert_eq!(pool.next(&worker, After::Start), Next::Run(1));
    }

    #[test]
    fn jobs_that_wait_are_done_before_the_end() {
        let (pool, worker) = with_idle_worker();
        assert_eq!(pool.push(1), Ok(()));
        pool.end();
        assert_eq!(pool.push(2), Err(Refused::Ended(2)));
        assert!(!pool.lacks_worker());
        assert_eq!(pool.push_anyway(2), Err(Refused::Ended(2)));
        worker.wait();
        assert_eq!(pool.next(&worker, After::Wait), Next::Run(1));
        assert_eq!(pool.next(&worker, After::Job), Next::End);
    }

    #[test]
    fn idle_workers_are_woken_for_the_end() {
        let (pool, worker) = with_idle_worker();
        pool.end();
        worker.wait();
        assert_eq!(pool.next(&worker, After::Wait), Next::End);
    }

    fn work(pool: &Pool<u32>, results: &mpsc::Sender<u32>) {
        let (worker, mut after) = (Worker::current(), After::Start);
        loop {
            match pool.next(&worker, after) {
                Next::Run(job) => {
                    results.send(job).expect("the test listens");
                    after = After::Job;
                }
                Next::Wait => {
                    worker.wait();
                    after = After::Wait;
                }
                Next::End => return,
            }
        }
    }

    #[test]
    fn every_job_is_done_once_whoever_adds_it() {
        const JOBS: u32 = 2_000;
        let pool = Pool::new(3);
        let (sender, results) = mpsc::channel();
        thread::scope(|scope| {
            let add = |mut job| loop {
                match pool.push(job) {
                    Ok(()) => return,
                    Err(Refused::Ended(_)) => panic!("the pool goes on"),
                    Err(Refused::WorkerNeeded(refused)) => {
                        job = refused;
                        let (pool, sender) = (&pool, sender.clone());
                        scope.spawn(move || work(pool, &sender));
                        pool.worker_started();
                    }
                }
            };
            thread::scope(|adding| {
                adding.spawn(|| (0..JOBS).step_by(2).for_each(add));
                adding.spawn(|| (1..JOBS).step_by(2).for_each(add));
            });
            pool.end();
        });
        drop(sender);
        let mut done: Vec<u32> = results.iter().collect();
        done.sort_unstable();
        assert!(done.into_iter().eq(0..JOBS));
    }
}
