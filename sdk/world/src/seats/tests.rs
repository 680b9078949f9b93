//! Properties of the seat machine.
