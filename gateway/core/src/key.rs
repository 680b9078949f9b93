//! Dense keys: slab indexes, so that the hot path is an array access and never a map.

/// One world server as this core knows it. Given by the core with [`crate::Action::Dial`]; the same for every run of the
/// server, until [`crate::Action::Hangup`] with `forget`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerKey(pub u32);

/// One player session in this core. Given with [`crate::Action::Bind`]; valid for the connection it was bound to until the
/// core closes that connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionKey(pub u32);

/// One player connection. Chosen by the shell, dense, unique while the connection is open: from `Input::Hello` until
/// either the core says [`crate::Action::ClosePlayer`] or the shell says `Input::ConnectionLost`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnKey(pub u32);

impl ServerKey {
    /// The slab index.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl SessionKey {
    /// The slab index.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl ConnKey {
    /// The slab index.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}
