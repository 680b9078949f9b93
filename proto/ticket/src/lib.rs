//! tidegate-ticket
