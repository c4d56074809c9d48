//! Several threads that work on one question.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};

use pulsestream_core::{Error, ErrorKind};

use crate::error::{Fault, FaultResult};
use crate::pool::Shared;

/// Who works on a question: the thread that answers it, and threads of the pool that have nothing else to do.
///
/// Nobody waits for a helper that has not begun, so questions that help each other cannot block each other.
#[derive(Debug, Clone, Default)]
pub(crate) struct Crew {
    pool: Option<(Weak<Shared>, usize)>,
}

impl Crew {
    /// Creates a crew of the calling thread and up to `threads - 1` of a pool.
    pub(crate) fn of(pool: Weak<Shared>, threads: usize) -> Self {
        Self { pool: Some((pool, threads)) }
    }

    /// Returns how many threads there are at most.
    pub(crate) fn threads(&self) -> usize {
        self.pool.as_ref().map_or(1, |(_, threads)| *threads)
    }

    /// Runs `work` on this thread, and on every other thread that is free when this is called; returns what each returned. The work
    /// is divided by whoever does it: `work` takes pieces until none is left.
    ///
    /// # Errors
    /// The first of `work`, after everybody has ended.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        work: impl Fn() -> FaultResult<T> + Send + Sync + 'static,
    ) -> FaultResult<Vec<T>> {
        let Some(pool) = self.pool.as_ref().and_then(|(pool, threads)| Some((pool.upgrade()?, threads - 1)))
        else {
            return Ok(vec![work()?]);
        };
        let together = Arc::new(Together { work, state: Mutex::default(), ended: Condvar::new() });
        let (pool, helpers) = pool;
        pool.help(helpers, || {
            let together = Arc::clone(&together);
            Box::new(move || together.help())
        });
        let mine = (together.work)();
        let mut outcomes = together.wait();
        outcomes.push(mine);
        outcomes.into_iter().collect()
    }
}

struct Together<T, W> {
    work: W,
    state: Mutex<State<T>>,
    ended: Condvar,
}

struct State<T> {
    is_over: bool,
    at_work: usize,
    outcomes: Vec<FaultResult<T>>,
}

impl<T> Default for State<T> {
    fn default() -> Self {
        Self { is_over: false, at_work: 0, outcomes: Vec::new() }
    }
}

impl<T, W: Fn() -> FaultResult<T>> Together<T, W> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn help(&self) {
        {
            let mut state = self.state();
            if state.is_over {
                return;
            }
            state.at_work += 1;
        }
        let mut helper = Helper { together: self, outcome: Some(Err(panicked())) };
        helper.outcome = Some((self.work)());
    }

    /// Waits for the helpers that have begun; others find nothing to do.
    fn wait(&self) -> Vec<FaultResult<T>> {
        let mut state = self.state();
        state.is_over = true;
        let mut state =
            self.ended.wait_while(state, |state| state.at_work > 0).unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut state.outcomes)
    }
}

fn panicked() -> Fault {
    Error::new(ErrorKind::Internal, "embedded.query", "the query stopped unexpectedly").into()
}

/// Signs off also when the work panicked.
struct Helper<'a, T, W: Fn() -> FaultResult<T>> {
    together: &'a Together<T, W>,
    outcome: Option<FaultResult<T>>,
}

impl<T, W: Fn() -> FaultResult<T>> Drop for Helper<'_, T, W> {
    fn drop(&mut self) {
        let mut state = self.together.state();
        state.at_work -= 1;
        state.outcomes.extend(self.outcome.take());
        self.together.ended.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use pulsestream_core::testkit::block_on;

    use super::*;
    use crate::pool::Pool;

    #[test]
    fn free_threads_help_and_every_piece_is_done_once() {
        let pool = Arc::new(Pool::new("query_queue", 3, 8));
        let crew = pool.crew();
        let threads = Arc::clone(&pool);
        let answer = pool.run(move || {
            let (next, all_here) = (AtomicUsize::new(0), Barrier::new(3));
            threads.wait_until_idle(2);
            crew.run(move || {
                all_here.wait();
                let piece = || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|piece| *piece < 100);
                Ok(std::iter::from_fn(piece).sum::<usize>())
            })
        });
        let sums = block_on(answer.unwrap()).unwrap();
        assert_eq!((sums.len(), sums.iter().sum::<usize>()), (3, 4_950));
        pool.close();
    }

    #[test]
    fn a_crew_of_one_and_a_closed_pool_do_the_work_alone() {
        assert_eq!(Crew::default().run(|| Ok(7)).unwrap(), [7]);
        let pool = Pool::new("query_queue", 2, 8);
        let crew = pool.crew();
        pool.close();
        drop(pool);
        assert_eq!(crew.run(|| Ok(8)).unwrap(), [8]);
    }

    #[test]
    fn the_failure_and_the_panic_of_a_helper_are_told() {
        let pool = Arc::new(Pool::new("query_queue", 2, 8));
        for panics in [false, true] {
            let (crew, threads) = (pool.crew(), Arc::clone(&pool));
            let answer = pool.run(move || {
                let (turn, both_here) = (AtomicUsize::new(0), Barrier::new(2));
                threads.wait_until_idle(1);
                crew.run(move || {
                    both_here.wait();
                    match turn.fetch_add(1, Ordering::Relaxed) {
                        0 => Ok(()),
                        _ => {
                            assert!(!panics, "as a test");
                            Err(Fault::Closed)
                        }
                    }
                })
            });
            assert!(block_on(answer.unwrap()).is_err());
        }
        pool.close();
    }
}
