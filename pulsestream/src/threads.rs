//! Expensive computations on tokio's blocking threads.

use pulsestream_core::Result;
use pulsestream_core::auth::{BlockingPool, Job};
use tokio::runtime::Handle;

/// Runs jobs on the blocking threads of a tokio runtime.
#[derive(Debug)]
pub(crate) struct TokioThreads(Handle);

impl TokioThreads {
    /// Uses the runtime that this is called on.
    pub(crate) fn current() -> Self {
        Self(Handle::current())
    }
}

impl BlockingPool for TokioThreads {
    fn run(&self, job: Job) -> Result<()> {
        self.0.spawn_blocking(job);
        Ok(())
    }
}
