//! Answers whose time tells nothing.
//!
//! A guess at a tenant that exists costs a line in its audit log, and one at a tenant that does not costs none, because there is no
//! log. What a disk takes for that line can be measured from afar. So refusals about accounts go out at even times.

use std::time::Duration;

use super::AuthService;
use crate::id::TenantId;

/// Refusals go out a whole number of these after they were asked for: much more than a password hash and a commit take together, so
/// that nearly all of them take one.
pub(super) const STEP: Duration = Duration::from_millis(250);

/// The id that no tenant has: what is looked up and written for a tenant that does not exist, so that the work is the same.
pub(super) const NOBODY: TenantId = TenantId::from_u128(0);

impl AuthService {
    /// Waits until whole steps have passed since `started`, by the monotonic clock. Without a timer it does not wait.
    pub(super) async fn even_out(&self, started: Duration) {
        let Some(timer) = &self.0.timer else { return };
        let mut rest = self.0.env.monotonic().saturating_sub(started);
        while let Some(less) = rest.checked_sub(STEP) {
            rest = less;
        }
        timer.sleep(STEP - rest).await;
    }
}
