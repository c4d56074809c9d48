//! The ports: what an application can plug in.
//!
//! Every port is dyn-safe, takes the tenant first, and is batch-shaped. A method's `# Contract` names what the conformance
//! suite in `testkit` proves.

pub mod key_value;
