//! The shared directory against real Redis servers.

mod checks;
mod clusters;
mod entries;
mod outages;
mod support;
mod tickets;
