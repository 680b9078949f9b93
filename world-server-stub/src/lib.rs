//! A small honest game world, and faults on demand.
