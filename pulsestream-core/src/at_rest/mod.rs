//! The at-rest ports over the key-value port: whoever brings a [`KeyValue`](crate::ports::key_value::KeyValue) store gets them all.

mod alert_commit;
mod alert_documents;
mod alert_store;
mod coordinator;
mod documents;
mod identity;
mod identity_commit;
mod keys;
mod outbox;
mod outbox_rows;
mod record;
mod transaction;
mod turns;

pub use alert_store::KeyValueAlertStore;
pub use coordinator::KeyValueCoordinator;
pub use documents::KeyValueDocumentStore;
pub use identity::KeyValueIdentityStore;
pub use outbox::KeyValueOutbox;
