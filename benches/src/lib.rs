//! Benches and side-by-side comparisons.

pub mod rules;
pub mod servers;
