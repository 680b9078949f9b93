//! Frames in a row, as copies in one ring of bytes: a frame is a slice of a buffer that many sessions' frames came in, and
//! keeping one would keep them all. The usual case allocates nothing.

use std::collections::VecDeque;

use bytes::Bytes;

/// Room that an empty ring may keep, in bytes; after a burst the rest is given back.
const KEPT_ROOM: usize = 4 * 1024;

/// Frames in a row.
#[derive(Debug, Clone, Default)]
pub struct Ring {
    lengths: VecDeque<u32>,
    bytes: VecDeque<u8>,
}

impl Ring {
    /// How many frames.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lengths.len()
    }

    /// True if there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// How many bytes, counted over bodies.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Adds one at the end.
    ///
    /// # Panics
    /// If it is longer than 4 GiB; frames are at most 16 KiB long.
    pub fn push(&mut self, body: &[u8]) {
        self.lengths.push_back(u32::try_from(body.len()).expect("a frame is at most 16 KiB long"));
        self.bytes.extend(body);
    }

    /// Drops the oldest; false if there is none.
    pub fn pop(&mut self) -> bool {
        let Some(length) = self.lengths.pop_front() else { return false };
        self.bytes.drain(..length as usize);
        if self.lengths.is_empty() && self.bytes.capacity() > KEPT_ROOM {
            self.clear();
        }
        true
    }

    /// Drops all, and their memory.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// All but the first `skip`.
    #[must_use]
    pub fn copy_from(&self, skip: usize) -> Vec<Bytes> {
        let mut at: usize = self.lengths.iter().take(skip).map(|length| *length as usize).sum();
        let mut frames = Vec::with_capacity(self.len().saturating_sub(skip));
        for length in self.lengths.iter().skip(skip) {
            let end = at + *length as usize;
            frames.push(self.bytes.range(at..end).copied().collect());
            at = end;
        }
        frames
    }
}
