//! Seeded simulation of whole databases.
fn main() {}
