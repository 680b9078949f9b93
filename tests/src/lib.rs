//! Harness, simulation, scenarios, end to end.
