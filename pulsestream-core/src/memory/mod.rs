//! The memory backend: every port, nothing durable; the reference that other backends are compared with.

mod key_value;

pub use key_value::MemoryKeyValue;
