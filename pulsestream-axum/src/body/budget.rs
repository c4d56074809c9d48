//! How many bytes of bodies may be in memory at once, over all requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pulsestream_core::{Error, ErrorKind};

use crate::failure::{Answer, Failure};

/// A number of bytes to share out.
#[derive(Debug, Clone)]
pub(crate) struct BodyBudget(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limit: usize,
    used: AtomicUsize,
}

/// A part of the budget, given back when dropped.
#[derive(Debug)]
pub(crate) struct Reserved {
    shared: Arc<Shared>,
    bytes: usize,
}

impl BodyBudget {
    pub(crate) fn new(limit: usize) -> Self {
        Self(Arc::new(Shared { limit, used: AtomicUsize::new(0) }))
    }

    /// Returns an empty part, to be grown as bytes arrive.
    pub(crate) fn empty(&self) -> Reserved {
        Reserved { shared: self.0.clone(), bytes: 0 }
    }

    pub(crate) fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }
}

impl Reserved {
    /// Takes more of the budget; fails with 503 when it is spent.
    pub(crate) fn grow(&mut self, bytes: usize) -> Answer<()> {
        let limit = self.shared.limit;
        let take = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= limit);
        match self.shared.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take) {
            Ok(_) => {
                self.bytes += bytes;
                Ok(())
            }
            Err(_) => Err(Failure::from(Error::new(
                ErrorKind::Unavailable,
                "http.body",
                "the bodies of other requests take all the memory there is for bodies",
            ))),
        }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.shared.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reserved_is_given_back() {
        let budget = BodyBudget::new(100);
        let (mut first, mut second) = (budget.empty(), budget.empty());
        first.grow(60).unwrap();
        second.grow(40).unwrap();
        assert_eq!(second.grow(1).unwrap_err().status().as_u16(), 503);
        drop(first);
        second.grow(60).unwrap();
        assert_eq!(budget.used(), 100);
        drop(second);
        assert_eq!(budget.used(), 0);
    }
}
