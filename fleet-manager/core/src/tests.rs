//! Tests of the whole aggregate beside a model of the truth.

mod main_path;
