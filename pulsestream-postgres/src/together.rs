//! Questions that come at the same time, asked with one statement.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pulsestream_core::error::{Error, ErrorKind, Result};
use tokio::sync::oneshot;

type Answering<A> = Pin<Box<dyn Future<Output = Result<Vec<A>>> + Send>>;

/// Answers one question at once, and those that come meanwhile together with the next statement: what the 16 partitions of a node ask
/// costs about as much as what one asks, and nobody waits for company. An answer was read after its question was asked.
pub(crate) struct Together<Q, A> {
    answer: Box<dyn Fn(Vec<Q>) -> Answering<A> + Send + Sync>,
    state: Mutex<State<Q, A>>,
}

struct State<Q, A> {
    waiting: Vec<Waiting<Q, A>>,
    /// Whether a task takes what waits.
    is_asking: bool,
}

struct Waiting<Q, A> {
    question: Q,
    reply: oneshot::Sender<Result<A>>,
}

impl<Q, A> fmt::Debug for Together<Q, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Together").finish_non_exhaustive()
    }
}

impl<Q: Send + 'static, A: Send + 'static> Together<Q, A> {
    /// `answer` returns one answer for each question, in their order.
    pub(crate) fn new<F>(answer: impl Fn(Vec<Q>) -> F + Send + Sync + 'static) -> Arc<Self>
    where
        F: Future<Output = Result<Vec<A>>> + Send + 'static,
    {
        let answer = Box::new(move |questions| Box::pin(answer(questions)) as Answering<A>);
        Arc::new(Self { answer, state: Mutex::new(State { waiting: Vec::new(), is_asking: false }) })
    }

    pub(crate) async fn ask(self: &Arc<Self>, operation: &'static str, question: Q) -> Result<A> {
        let (reply, replied) = oneshot::channel();
        let is_first = {
            let mut state = self.lock();
            state.waiting.push(Waiting { question, reply });
            !std::mem::replace(&mut state.is_asking, true)
        };
        if is_first {
            // A task of its own, so that whoever asked first may go away.
            tokio::spawn(Asking { together: self.clone(), is_over: false }.run());
        }
        let lost = |_| Err(Error::new(ErrorKind::Internal, operation, "the question was not answered"));
        replied.await.unwrap_or_else(lost)
    }

    fn lock(&self) -> MutexGuard<'_, State<Q, A>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task that asks; however it ends, the next question starts another.
struct Asking<Q, A> {
    together: Arc<Together<Q, A>>,
    /// Whether it ended in order, and another may be at work already.
    is_over: bool,
}

impl<Q: Send + 'static, A: Send + 'static> Asking<Q, A> {
    async fn run(mut self) {
        loop {
            // Those that were woken by the same answer come along.
            tokio::task::yield_now().await;
            let mut asked = {
                let mut state = self.together.lock();
                if state.waiting.is_empty() {
                    state.is_asking = false;
                    self.is_over = true;
                    return;
                }
                std::mem::take(&mut state.waiting)
            };
            asked.retain(|waiting| !waiting.reply.is_closed());
            if asked.is_empty() {
                continue;
            }
            let (questions, replies): (Vec<_>, Vec<_>) =
                asked.into_iter().map(|waiting| (waiting.question, waiting.reply)).unzip();
            reply_to_all(replies, (self.together.answer)(questions).await);
        }
    }
}

impl<Q, A> Drop for Asking<Q, A> {
    fn drop(&mut self) {
        if !self.is_over {
            // The runtime stops, or answering panicked: nobody would answer these.
            let mut state = self.together.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.is_asking = false;
            state.waiting.clear();
        }
    }
}

fn reply_to_all<A>(replies: Vec<oneshot::Sender<Result<A>>>, answers: Result<Vec<A>>) {
    // Nobody listens where sending fails.
    match answers {
        Ok(answers) => {
            for (reply, answer) in replies.into_iter().zip(answers) {
                let _ = reply.send(Ok(answer));
            }
        }
        Err(error) => {
            for reply in replies {
                let alike = Error::new(error.kind(), error.operation(), error.message().to_owned());
                let context = error.context().iter();
                let alike = context.fold(alike, |alike, (key, value)| alike.with_context(key, value));
                let _ = reply.send(Err(alike.with_retry(error.retry())));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn what_is_asked_during_an_answer_is_answered_by_the_next() {
        let (rounds, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
        let (counted, opened) = (rounds.clone(), gate.clone());
        let together = Together::new(move |questions: Vec<usize>| {
            let (counted, opened) = (counted.clone(), opened.clone());
            async move {
                let round = counted.fetch_add(1, Ordering::SeqCst);
                opened.acquire().await.unwrap().forget();
                Ok(questions.into_iter().map(|question| (question, round)).collect())
            }
        });
        let ask = |question| {
            let together = together.clone();
            tokio::spawn(async move { together.ask("test", question).await.unwrap() })
        };
        let first = ask(0);
        while rounds.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        let others: Vec<_> = (1..9).map(ask).collect();
        let gone = ask(9);
        tokio::task::yield_now().await;
        gone.abort();
        gate.add_permits(2);
        assert_eq!(first.await.unwrap(), (0, 0));
        for (number, other) in others.into_iter().enumerate() {
            assert_eq!(other.await.unwrap(), (number + 1, 1), "its own answer, of the second round");
        }
        assert_eq!(rounds.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_failure_and_a_panic_reach_everybody_and_hold_nobody_up() {
        let together = Together::new(|questions: Vec<&'static str>| async move {
            match questions[0] {
                "panic" => panic!("as asked"),
                "fail" => {
                    let retry = pulsestream_core::error::Retry::Maybe;
                    Err(Error::new(ErrorKind::Unavailable, "test", "no").with_retry(retry))
                }
                _ => Ok(questions),
            }
        });
        assert_eq!(together.ask("test", "panic").await.unwrap_err().kind(), ErrorKind::Internal);
        let (one, two) = tokio::join!(together.ask("test", "fail"), together.ask("test", "fail"));
        for error in [one.unwrap_err(), two.unwrap_err()] {
            assert_eq!((error.kind(), error.message()), (ErrorKind::Unavailable, "no"));
            assert_eq!(error.retry(), pulsestream_core::error::Retry::Maybe);
        }
        assert_eq!(together.ask("test", "fine").await.unwrap(), "fine");
    }
}
