//! zastava-observer.

mod containers;
mod pipeline;

fn main() {}
