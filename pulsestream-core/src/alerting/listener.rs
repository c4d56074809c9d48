//! Who is told that alerts have changed, and that there is something to deliver.

use std::fmt;

use crate::id::{AlertId, TenantId};

/// Is told of changes of alerts and of deliveries after they are stored, by the processor and by the service, on the node that made them.
///
/// It may be told twice of a commit that was made again, and never of one after which the node died. So it suits what shows alerts, not
/// what counts them.
pub trait AlertListener: fmt::Debug + Send + Sync + 'static {
    /// Takes note; it must not block.
    fn alerts_changed(&self, tenant: TenantId, alerts: &[AlertId]);

    /// Takes note that there are new deliveries, so that they need not wait for the next look at the outbox; it must not block.
    fn deliveries_planned(&self);
}
