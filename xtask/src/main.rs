//! Development tasks: lint, test, services.
fn main() {}
