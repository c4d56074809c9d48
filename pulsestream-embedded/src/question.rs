//! What ends a question before it is answered: nobody waits any more, its time is up, it holds too much, or the store closes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use pulsestream_core::env::Env;

use crate::config::EmbeddedConfig;
use crate::crew::Crew;
use crate::error::{Fault, FaultResult};
use crate::pool::Pool;

/// Takes the questions to one store, and has the threads that answer them.
#[derive(Debug)]
pub(crate) struct Desk {
    env: Env,
    /// For questions that may look at everything.
    threads: Pool,
    /// For reads that are over soon, which must not wait behind questions: events by id, and the log.
    short: Pool,
    timeout: Duration,
    max_bytes: usize,
    is_closed: AtomicBool,
    /// Blocks of rows looked at for all questions so far.
    blocks: AtomicU64,
}

impl Desk {
    /// Creates the desk of a store.
    pub(crate) fn new(env: Env, config: &EmbeddedConfig) -> Arc<Self> {
        Arc::new(Self {
            env,
            threads: Pool::new("query_queue", config.query_threads, config.query_queue),
            short: Pool::new("query_queue", config.query_threads, config.query_queue),
            timeout: config.query_timeout,
            max_bytes: config.query_bytes,
            is_closed: AtomicBool::new(false),
            blocks: AtomicU64::new(0),
        })
    }

    /// Takes a question, whose time begins now.
    pub(crate) fn take(self: &Arc<Self>) -> Arc<Question> {
        let deadline = self.env.monotonic().saturating_add(self.timeout);
        self.with_deadline(deadline, self.max_bytes)
    }

    /// Takes work that looks for rows like a question and has no limits: a deletion, which must not stop in the middle.
    pub(crate) fn take_unlimited(self: &Arc<Self>) -> Arc<Question> {
        self.with_deadline(Duration::MAX, usize::MAX)
    }

    fn with_deadline(self: &Arc<Self>, deadline: Duration, max_bytes: usize) -> Arc<Question> {
        Arc::new(Question {
            desk: Arc::clone(self),
            deadline,
            max_bytes,
            is_given_up: AtomicBool::new(false),
            held_bytes: AtomicUsize::new(0),
        })
    }

    /// Answers a question: at once when it is small, else on a thread. Dropping the future ends it.
    ///
    /// # Errors
    /// `Full` when too many wait, and those of the job and its question.
    pub(crate) async fn answer<T: Send + 'static>(
        self: &Arc<Self>,
        size: Size,
        job: impl FnOnce(&Arc<Question>) -> FaultResult<T> + Send + 'static,
    ) -> FaultResult<T> {
        let question = self.take();
        let pool = match size {
            Size::Small => return question.proceed().and_then(|()| job(&question)),
            Size::Short => &self.short,
            Size::Large => &self.threads,
        };
        let asked = Arc::clone(&question);
        pool.ask(question, move || job(&asked))?.await
    }

    /// Ends all questions at their next block.
    pub(crate) fn end_questions(&self) {
        self.is_closed.store(true, Ordering::Release);
    }

    /// Ends all questions and the threads.
    pub(crate) fn close(&self) {
        self.end_questions();
        self.threads.close();
        self.short.close();
    }

    /// Returns who works on a question of a size.
    pub(crate) fn crew(&self, size: Size) -> Crew {
        if size == Size::Large { self.threads.crew() } else { Crew::default() }
    }

    /// Returns how many questions wait for a thread.
    pub(crate) fn waiting(&self) -> usize {
        self.threads.waiting() + self.short.waiting()
    }

    /// Returns how many blocks of rows were looked at for all questions so far.
    pub(crate) fn blocks(&self) -> u64 {
        self.blocks.load(Ordering::Relaxed)
    }
}

/// How much work a question may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Size {
    /// Less than handing it over to a thread.
    Small,
    /// A few blocks, perhaps from the disk.
    Short,
    /// Anything.
    Large,
}

/// One question while it is answered, by one thread or by several.
#[derive(Debug)]
pub(crate) struct Question {
    desk: Arc<Desk>,
    deadline: Duration,
    max_bytes: usize,
    is_given_up: AtomicBool,
    held_bytes: AtomicUsize,
}

impl Question {
    /// Ends the question at the next block: nobody waits for the answer.
    pub(crate) fn give_up(&self) {
        self.is_given_up.store(true, Ordering::Release);
    }

    /// Returns whether nobody waits for the answer.
    pub(crate) fn is_given_up(&self) -> bool {
        self.is_given_up.load(Ordering::Acquire)
    }

    /// Allows one more step; asked before each block of rows and before each part.
    ///
    /// # Errors
    /// `GivenUp`, `Late`, `Closed`.
    pub(crate) fn proceed(&self) -> FaultResult<()> {
        if self.is_given_up() {
            return Err(Fault::GivenUp);
        }
        if self.desk.is_closed.load(Ordering::Acquire) {
            return Err(Fault::Closed);
        }
        // Work without a deadline does not read the clock.
        if self.deadline != Duration::MAX && self.desk.env.monotonic() > self.deadline {
            return Err(Fault::Late { timeout: self.desk.timeout });
        }
        Ok(())
    }

    /// Allows a look at one more block of rows, and counts it.
    ///
    /// # Errors
    /// Those of [`Self::proceed`].
    pub(crate) fn next_block(&self) -> FaultResult<()> {
        self.proceed()?;
        self.desk.blocks.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Counts bytes that the question takes up.
    ///
    /// # Errors
    /// `TooLarge` when there are too many.
    pub(crate) fn hold(&self, bytes: usize) -> FaultResult<()> {
        let held = self.held_bytes.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if held > self.max_bytes {
            return Err(Fault::TooMuchHeld { bytes: held, limit: self.max_bytes });
        }
        Ok(())
    }

    /// Counts bytes that the question let go.
    pub(crate) fn release(&self, bytes: usize) {
        self.held_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn desk(env: Env) -> Arc<Desk> {
        let config = EmbeddedConfig {
            query_timeout: Duration::from_secs(2),
            query_bytes: 100,
            ..EmbeddedConfig::default()
        };
        Desk::new(env, &config)
    }

    #[test]
    fn time_runs_from_the_start_and_ends_after_the_timeout() {
        let (env, clock) = Env::manual("2026-01-01T00:00:00Z".parse().unwrap(), 1);
        let desk = desk(env);
        clock.advance(Duration::from_secs(10));
        let (question, unlimited) = (desk.take(), desk.take_unlimited());
        clock.advance(Duration::from_secs(2));
        question.next_block().unwrap();
        clock.advance(Duration::from_micros(1));
        let late = question.next_block().unwrap_err();
        assert!(matches!(late, Fault::Late { timeout } if timeout == Duration::from_secs(2)));
        unlimited.next_block().unwrap();
        assert_eq!(desk.blocks(), 2, "a refused block is not counted");
    }

    #[test]
    fn what_was_given_up_or_closed_ends() {
        let desk = desk(Env::system());
        let (given_up, other) = (desk.take(), desk.take());
        given_up.give_up();
        assert!(matches!(given_up.proceed(), Err(Fault::GivenUp)));
        other.proceed().unwrap();
        desk.close();
        assert!(matches!(other.proceed(), Err(Fault::Closed)));
    }

    #[test]
    fn bytes_are_counted_until_they_are_let_go() {
        let question = desk(Env::system()).take();
        question.hold(100).unwrap();
        question.release(60);
        question.hold(60).unwrap();
        assert!(matches!(question.hold(1), Err(Fault::TooMuchHeld { bytes: 101, limit: 100 })));
    }
}
