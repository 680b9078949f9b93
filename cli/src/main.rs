//! The one binary: every process, and the operator's tool.

fn main() {}
