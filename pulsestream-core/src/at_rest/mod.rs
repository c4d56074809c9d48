//! The at-rest ports over the key-value port: whoever brings a [`KeyValue`](crate::ports::key_value::KeyValue) store gets them all.

mod coordinator;
mod identity;
mod identity_commit;
mod keys;
mod record;

pub use coordinator::KeyValueCoordinator;
pub use identity::KeyValueIdentityStore;
