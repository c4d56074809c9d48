//! One connection: whether it is fit for use, and whether it goes back to its pool.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pulsestream_core::time::micros;
use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, Postgres};

/// When a connection broke for the last time: all that are older may be broken as well.
#[derive(Debug, Default)]
pub(crate) struct Suspicion {
    broke_at_micros: AtomicU64,
}

impl Suspicion {
    pub(crate) fn broke(&self, now: Duration) {
        let now = u64::try_from(micros(now)).unwrap_or_default();
        self.broke_at_micros.fetch_max(now.max(1), Ordering::AcqRel);
    }

    /// Returns whether a connection of this age was there when one broke.
    pub(crate) fn is_older(&self, now: Duration, age: Duration) -> bool {
        let broke_at = self.broke_at_micros.load(Ordering::Acquire);
        let opened_at = micros(now).saturating_sub(micros(age));
        broke_at > 0 && i64::try_from(broke_at).is_ok_and(|broke_at| opened_at <= broke_at)
    }
}

/// A connection that goes back to its pool only when somebody says that it is clean; otherwise, also after a panic or when the
/// runtime stops, it is closed.
#[derive(Debug)]
pub(crate) struct Lease(Option<PoolConnection<Postgres>>);

impl Lease {
    pub(crate) fn new(connection: PoolConnection<Postgres>) -> Self {
        Self(Some(connection))
    }

    pub(crate) fn connection(&mut self) -> Result<&mut PgConnection, sqlx::Error> {
        self.0.as_deref_mut().ok_or(sqlx::Error::PoolClosed)
    }

    pub(crate) fn give_back(mut self) {
        self.0.take();
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(mut connection) = self.0.take() {
            connection.close_on_drop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_from_before_the_break_are_suspect() {
        let suspicion = Suspicion::default();
        let second = Duration::from_secs;
        assert!(!suspicion.is_older(second(10), second(9)));
        suspicion.broke(second(5));
        assert!(suspicion.is_older(second(10), second(9)));
        assert!(!suspicion.is_older(second(10), second(4)));
    }
}
