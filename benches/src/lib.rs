//! Benches and side-by-side comparisons.
