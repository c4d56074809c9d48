//! The `pulsestream` program.
fn main() {}
