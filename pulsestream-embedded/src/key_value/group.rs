//! Commits that come while another one is on its way to the disk go there together: one sync for all of them.
//!
//! Every commit queues a job, in turn on one thread. The first job whose commit is not made yet makes all that wait, in the order in
//! which they came, and leaves the others their outcomes to pick up. So nobody waits for a commit that came later to be collected.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pulsestream_core::ports::key_value::{Commit, CommitOutcome};
use pulsestream_core::{Error, ErrorKind};

use crate::error::FaultResult;

/// Most commits of one group, so that nobody waits long for others.
const MAX_GROUP: usize = 256;

/// Commits that wait, and outcomes that wait for their commits' jobs.
#[derive(Debug, Default)]
pub(super) struct CommitGroup(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    next: u64,
    waiting: VecDeque<(u64, Commit)>,
    finished: HashMap<u64, FaultResult<CommitOutcome>>,
}

impl CommitGroup {
    /// Adds a commit and returns its ticket, for [`Self::finish`] or [`Self::leave`].
    pub(super) fn join(&self, commit: Commit) -> u64 {
        let mut state = self.lock();
        let ticket = state.next;
        state.next += 1;
        state.waiting.push_back((ticket, commit));
        ticket
    }

    /// Takes a commit out for which no job could be queued; returns its outcome when another job has made it already.
    pub(super) fn leave(&self, ticket: u64) -> Option<FaultResult<CommitOutcome>> {
        let mut state = self.lock();
        state.waiting.retain(|(waiting, _)| *waiting != ticket);
        state.finished.remove(&ticket)
    }

    /// Returns the outcome of a commit. Unless an earlier job has made it, calls `commit_all` with those that wait.
    pub(super) fn finish(
        &self,
        ticket: u64,
        mut commit_all: impl FnMut(&[Commit]) -> FaultResult<Vec<CommitOutcome>>,
    ) -> FaultResult<CommitOutcome> {
        loop {
            let (tickets, commits): (Vec<u64>, Vec<Commit>) = {
                let mut state = self.lock();
                if let Some(outcome) = state.finished.remove(&ticket) {
                    return outcome;
                }
                let count = state.waiting.len().min(MAX_GROUP);
                state.waiting.drain(..count).unzip()
            };
            if tickets.is_empty() {
                // The job that took it panicked.
                let message = "the commit stopped unexpectedly";
                return Err(Error::new(ErrorKind::OutcomeUnknown, "key_value.commit", message).into());
            }
            let outcomes = commit_all(&commits);
            let mut state = self.lock();
            match outcomes {
                Ok(outcomes) => state.finished.extend(tickets.into_iter().zip(outcomes.into_iter().map(Ok))),
                Err(fault) => state.finished.extend(tickets.into_iter().map(|it| (it, Err(fault.share())))),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Fault;

    fn all(commits: &[Commit]) -> FaultResult<Vec<CommitOutcome>> {
        Ok(vec![CommitOutcome::Committed; commits.len()])
    }

    #[test]
    fn the_first_job_makes_all_that_wait() {
        let group = CommitGroup::default();
        let tickets = [group.join(Commit::new()), group.join(Commit::new()), group.join(Commit::new())];
        let mut sizes = Vec::new();
        for ticket in tickets {
            let outcome = group.finish(ticket, |commits| {
                sizes.push(commits.len());
                all(commits)
            });
            assert_eq!(outcome.unwrap(), CommitOutcome::Committed);
        }
        assert_eq!(sizes, [3]);
    }

    #[test]
    fn a_job_that_overtakes_a_full_group_makes_its_own_commit_too() {
        let group = CommitGroup::default();
        let last = (0..=MAX_GROUP).map(|_| group.join(Commit::new())).last().unwrap();
        let mut groups = 0;
        let outcome = group.finish(last, |commits| {
            groups += 1;
            all(commits)
        });
        assert_eq!((outcome.unwrap(), groups), (CommitOutcome::Committed, 2));
    }

    #[test]
    fn a_fault_reaches_everybody_in_the_group() {
        let group = CommitGroup::default();
        let tickets = [group.join(Commit::new()), group.join(Commit::new())];
        assert!(matches!(group.finish(tickets[0], |_| Err(Fault::Poisoned)), Err(Fault::Poisoned)));
        assert!(matches!(group.finish(tickets[1], all), Err(Fault::Poisoned)));
    }

    #[test]
    fn who_leaves_learns_what_became_of_the_commit() {
        let group = CommitGroup::default();
        let (first, second) = (group.join(Commit::new()), group.join(Commit::new()));
        assert_eq!(group.finish(first, all).unwrap(), CommitOutcome::Committed);
        assert_eq!(group.leave(second).unwrap().unwrap(), CommitOutcome::Committed);
        let third = group.join(Commit::new());
        assert!(group.leave(third).is_none());
        assert!(group.finish(third, all).is_err(), "it is not made");
    }
}
