//! The QUIC edge that players connect to.
