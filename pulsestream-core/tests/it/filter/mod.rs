//! The filter language through its public interface.

mod errors;
mod forms;
mod properties;
mod semantics;
