//! Running cases: futures without a runtime, and several of them at once.

use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use crate::id::TenantId;
use crate::memory::signal::Signal;

/// A future that may run on any thread.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One promise of a port and the function that proves it; `H` is the harness, for example `dyn EventStoreHarness`.
pub struct Case<H: ?Sized> {
    /// Name of the function, as the `# Contract` of the port spells it.
    pub name: &'static str,
    /// Runs it on a fresh store; panics when the promise is broken.
    pub run: fn(Arc<H>) -> BoxFuture<'static, ()>,
}

impl<H: ?Sized> fmt::Debug for Case<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future on this thread, which sleeps while the future waits. It brings no timers and no sockets.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// Runs each task on a thread of its own by means of `block_on`, and waits for all of them; a panic in one is passed on.
pub async fn concurrently(
    block_on: impl Fn(BoxFuture<'static, ()>) + Send + Sync + 'static,
    tasks: Vec<BoxFuture<'static, ()>>,
) {
    let block_on = Arc::new(block_on);
    let pending = Arc::new(Pending { tasks: AtomicUsize::new(tasks.len()), signal: Signal::default() });
    let start = |task| {
        let (block_on, finished) = (block_on.clone(), Finished(pending.clone()));
        std::thread::spawn(move || {
            let _finished = finished;
            block_on(task);
        })
    };
    let threads: Vec<_> = tasks.into_iter().map(start).collect();
    pending.signal.wait_until(|| (pending.tasks.load(Ordering::Acquire) == 0).then_some(())).await;
    for thread in threads {
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    }
}

struct Pending {
    tasks: AtomicUsize,
    signal: Signal,
}

/// Counts a task as finished when its thread ends, by a panic too.
struct Finished(Arc<Pending>);

impl Drop for Finished {
    fn drop(&mut self) {
        self.0.tasks.fetch_sub(1, Ordering::Release);
        self.0.signal.notify_all();
    }
}

/// Returns a tenant that nobody else of this process has.
pub fn fresh_tenant() -> TenantId {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    TenantId::from_name(&format!("conformance/{}", NEXT.fetch_add(1, Ordering::Relaxed)))
}
