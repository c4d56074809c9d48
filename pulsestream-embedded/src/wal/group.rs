//! Group commit: whoever finds nobody writing writes for all who wait.
//!
//! The first poll of a submission only puts it into the queue and yields, so that on a single-threaded executor all
//! submissions of one round are queued before one of them leads. A leader blocks its thread for one write and one sync; on a
//! disk whose syncs are slow, submissions leave the lead to the store's own thread instead.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::task::{Context, Poll, Waker};

use crate::error::{Fault, FaultResult};

/// What the leader does with a group.
pub(crate) trait Lead: Send + 'static {
    /// One submission.
    type Job: std::fmt::Debug + Send;
    /// Its outcome.
    type Done: std::fmt::Debug + Send;

    /// Commits jobs in order and returns one outcome for each.
    fn commit(&mut self, jobs: Vec<Self::Job>) -> Vec<FaultResult<Self::Done>>;

    /// Returns whether a commit takes so long that it must not block a caller's thread.
    fn is_slow(&self) -> bool;
}

/// The queue and the leader's state. Cheap to clone.
#[derive(Debug)]
pub(crate) struct Group<L: Lead>(Arc<Shared<L>>);

impl<L: Lead> Clone for Group<L> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

#[derive(Debug)]
struct Shared<L: Lead> {
    queue: Mutex<Queue<L>>,
    leader: Mutex<L>,
    /// Wakes the store's own thread.
    call: Condvar,
    /// Bytes that may wait and be committed together.
    max_bytes: usize,
    /// Bytes that are committed at once, unless one submission alone is larger.
    group_bytes: usize,
}

#[derive(Debug)]
struct Queue<L: Lead> {
    waiting: VecDeque<Waiting<L>>,
    /// Bytes of what waits and of what is being committed.
    bytes: usize,
    /// How many submissions the last group had.
    last_group: usize,
    leading: bool,
    slow: bool,
    called: bool,
    closed: bool,
}

#[derive(Debug)]
struct Waiting<L: Lead> {
    job: L::Job,
    bytes: usize,
    slot: Arc<Slot<L::Done>>,
}

#[derive(Debug)]
struct Slot<D>(Mutex<SlotState<D>>);

#[derive(Debug)]
struct SlotState<D> {
    outcome: Option<FaultResult<D>>,
    waker: Option<Waker>,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<D> Slot<D> {
    fn finish(&self, outcome: FaultResult<D>) {
        let waker = {
            let mut state = held(&self.0);
            state.outcome = Some(outcome);
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<L: Lead> Group<L> {
    /// Creates a group whose queue holds up to `max_bytes`, of which about `group_bytes` are committed at once.
    pub(crate) fn new(leader: L, max_bytes: usize, group_bytes: usize) -> Self {
        let queue = Queue {
            waiting: VecDeque::new(),
            bytes: 0,
            last_group: 0,
            leading: false,
            slow: false,
            called: false,
            closed: false,
        };
        Self(Arc::new(Shared {
            queue: Mutex::new(queue),
            leader: Mutex::new(leader),
            call: Condvar::new(),
            max_bytes,
            group_bytes,
        }))
    }

    /// Returns a future that queues the job when first polled and resolves when it is committed. `bytes` is its weight.
    pub(crate) fn submit(&self, job: L::Job, bytes: usize) -> Submission<L> {
        Submission { group: self.clone(), stage: Stage::New(Some(job), bytes) }
    }

    /// Gives access to the leader's state; waits for a commit under way.
    pub(crate) fn leader(&self) -> MutexGuard<'_, L> {
        held(&self.0.leader)
    }

    /// Gives access to the leader's state unless a commit is under way.
    pub(crate) fn try_leader(&self) -> Option<MutexGuard<'_, L>> {
        match self.0.leader.try_lock() {
            Ok(leader) => Some(leader),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Returns the bytes in the queue.
    pub(crate) fn queued_bytes(&self) -> usize {
        held(&self.0.queue).bytes
    }

    /// Refuses further submissions; those in the queue are committed.
    pub(crate) fn close(&self) {
        held(&self.0.queue).closed = true;
        self.drain();
        let _queue = held(&self.0.queue);
        self.0.call.notify_all();
    }

    /// Commits whatever waits, on this thread.
    pub(crate) fn drain(&self) {
        loop {
            let mut queue = held(&self.0.queue);
            if queue.waiting.is_empty() {
                return;
            }
            if queue.leading {
                // The leader at work hands over to the first who waits, or to the store's own thread.
                drop(queue);
                drop(held(&self.0.leader));
                std::thread::yield_now();
                continue;
            }
            queue.leading = true;
            drop(queue);
            self.lead();
        }
    }

    /// Serves submissions that nobody leads until the group is closed; for the store's own thread.
    pub(crate) fn serve(&self) {
        let mut queue = held(&self.0.queue);
        loop {
            if queue.called && !queue.waiting.is_empty() && !queue.leading {
                queue.leading = true;
                drop(queue);
                self.lead();
                queue = held(&self.0.queue);
                continue;
            }
            queue.called = queue.called && !queue.waiting.is_empty();
            if queue.closed {
                return;
            }
            queue = self.0.call.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Commits one group; the caller has set `leading`.
    fn lead(&self) {
        let mut leader = held(&self.0.leader);
        let gathered = self.gather();
        let bytes = gathered.iter().map(|one| one.bytes).sum();
        let (jobs, slots) = gathered.into_iter().map(|one| (one.job, one.slot)).unzip();
        let mut handover = Handover { group: self, slots, slow: true, bytes };
        let outcomes = leader.commit(jobs);
        handover.slow = leader.is_slow();
        drop(leader);
        for (slot, outcome) in std::mem::take(&mut handover.slots).iter().zip(outcomes) {
            slot.finish(outcome);
        }
    }

    /// Takes the next group out of the queue. The threads whose submissions were committed last are awake again and most of them have
    /// another one: while the queue grows towards as many, they get the processor first, so that one sync serves them all.
    fn gather(&self) -> Vec<Waiting<L>> {
        let (mut seen, mut patience) = (0, PATIENCE);
        let mut queue = held(&self.0.queue);
        while queue.waiting.len() < queue.last_group && patience > 0 {
            patience = if queue.waiting.len() > seen { PATIENCE } else { patience - 1 };
            seen = queue.waiting.len();
            drop(queue);
            std::thread::yield_now();
            queue = held(&self.0.queue);
        }
        let mut bytes = 0;
        let mut count = 0;
        for waiting in &queue.waiting {
            if count > 0 && bytes + waiting.bytes > self.0.group_bytes {
                break;
            }
            bytes += waiting.bytes;
            count += 1;
        }
        queue.last_group = count;
        queue.waiting.drain(..count).collect()
    }
}

/// How many looks at a queue that does not grow end the wait for the submissions of a group.
const PATIENCE: usize = 2;

/// Ends a turn as leader, also when the commit panicked: its waiters then learn that the outcome is unknown.
struct Handover<'a, L: Lead> {
    group: &'a Group<L>,
    slots: Vec<Arc<Slot<L::Done>>>,
    slow: bool,
    bytes: usize,
}

impl<L: Lead> Drop for Handover<'_, L> {
    fn drop(&mut self) {
        for slot in &self.slots {
            slot.finish(Err(Fault::Poisoned));
        }
        let shared = &self.group.0;
        let mut queue = held(&shared.queue);
        queue.leading = false;
        queue.slow = self.slow;
        queue.bytes -= self.bytes;
        let Some(first) = queue.waiting.front() else { return };
        let waker = if queue.slow { None } else { held(&first.slot.0).waker.take() };
        match waker {
            Some(waker) => {
                drop(queue);
                waker.wake();
            }
            None => {
                queue.called = true;
                shared.call.notify_one();
            }
        }
    }
}

/// A job on its way; see [`Group::submit`].
///
/// Dropping it before the first poll does nothing; dropping it later leaves the job to be committed.
#[derive(Debug)]
pub(crate) struct Submission<L: Lead> {
    group: Group<L>,
    stage: Stage<L>,
}

#[derive(Debug)]
enum Stage<L: Lead> {
    New(Option<L::Job>, usize),
    Queued(Arc<Slot<L::Done>>),
    Finished,
}

impl<L: Lead> Unpin for Submission<L> {}

impl<L: Lead> Submission<L> {
    fn enqueue(&mut self, job: L::Job, bytes: usize, context: &Context<'_>) -> FaultResult<()> {
        let shared = &self.group.0;
        let mut queue = held(&shared.queue);
        if queue.closed {
            return Err(Fault::Closed);
        }
        if queue.bytes > 0 && queue.bytes + bytes > shared.max_bytes {
            return Err(Fault::Full { queue: "append" });
        }
        queue.bytes += bytes;
        let state = SlotState { outcome: None, waker: Some(context.waker().clone()) };
        let slot = Arc::new(Slot(Mutex::new(state)));
        queue.waiting.push_back(Waiting { job, bytes, slot: Arc::clone(&slot) });
        self.stage = Stage::Queued(slot);
        if queue.slow {
            queue.called = true;
            shared.call.notify_one();
        } else {
            // Yield once, so that others can join the group before somebody leads it.
            context.waker().wake_by_ref();
        }
        Ok(())
    }

    fn outcome(slot: &Slot<L::Done>, context: &Context<'_>) -> Option<FaultResult<L::Done>> {
        let mut state = held(&slot.0);
        let outcome = state.outcome.take();
        if outcome.is_none() {
            state.waker = Some(context.waker().clone());
        }
        outcome
    }
}

impl<L: Lead> Future for Submission<L> {
    type Output = FaultResult<L::Done>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let slot = match &mut this.stage {
            Stage::New(job, bytes) => {
                let (Some(job), bytes) = (job.take(), *bytes) else { return Poll::Ready(Err(Fault::Closed)) };
                if let Err(fault) = this.enqueue(job, bytes, context) {
                    this.stage = Stage::Finished;
                    return Poll::Ready(Err(fault));
                }
                return Poll::Pending;
            }
            Stage::Queued(slot) => Arc::clone(slot),
            Stage::Finished => return Poll::Ready(Err(Fault::Closed)),
        };
        if let Some(outcome) = Self::outcome(&slot, context) {
            this.stage = Stage::Finished;
            return Poll::Ready(outcome);
        }
        let lead = {
            let mut queue = held(&this.group.0.queue);
            let free = !queue.leading && !queue.slow && !queue.waiting.is_empty();
            queue.leading |= free;
            free
        };
        if lead {
            this.group.lead();
            if let Some(outcome) = Self::outcome(&slot, context) {
                this.stage = Stage::Finished;
                return Poll::Ready(outcome);
            }
        }
        Poll::Pending
    }
}

impl<L: Lead> Drop for Submission<L> {
    fn drop(&mut self) {
        let Stage::Queued(slot) = &self.stage else { return };
        let mut state = held(&slot.0);
        state.waker = None;
        if state.outcome.is_some() {
            return;
        }
        drop(state);
        // It may have been this one's turn to lead.
        let shared = &self.group.0;
        let mut queue = held(&shared.queue);
        queue.called = true;
        shared.call.notify_one();
    }
}
