//! Between the wire's messages and the words of [`crate::world`].
