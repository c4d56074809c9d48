//! Ports, data model, services and the memory backend of PulseStream.
#![forbid(unsafe_code)]
