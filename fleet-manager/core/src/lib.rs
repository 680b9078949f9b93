//! Pure: environment lifecycle, routing, drain, rollout.
