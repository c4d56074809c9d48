//! Numbers that JSON can write.

/// Returns the nearest number that JSON can write: a sum or a mean of numbers near the largest double is beyond it.
pub(crate) fn finite(value: f64) -> f64 {
    value.clamp(f64::MIN, f64::MAX)
}
