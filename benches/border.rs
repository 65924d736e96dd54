//! What an access check costs through the whole border.
fn main() {}
