//! Tests of the whole aggregate beside a model of the truth.

mod crash;
mod drains;
mod faults;
mod main_path;
mod properties;
mod refusals;
mod rollback;
mod second_rollout;
mod views;
