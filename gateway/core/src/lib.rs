//! Pure: player session machine, route decision, hand-over.
