//! QUIC variable-length integers (RFC 9000, section 16): 1, 2, 4 or 8 bytes, values up to 2^62 - 1.

use bytes::{Buf, BufMut};

/// Largest value that can be written.
pub const MAX: u64 = (1 << 62) - 1;

/// How many bytes `value` takes.
///
/// # Panics
/// If `value` is above [`MAX`].
#[must_use]
pub const fn len(value: u64) -> usize {
    match value {
        0..=0x3f => 1,
        0x40..=0x3fff => 2,
        0x4000..=0x3fff_ffff => 4,
        0x4000_0000..=MAX => 8,
        _ => panic!("value does not fit in a QUIC varint"),
    }
}

/// Appends `value`.
///
/// # Panics
/// If `value` is above [`MAX`].
pub fn put(out: &mut impl BufMut, value: u64) {
    match len(value) {
        1 => out.put_u8(value as u8),
        2 => out.put_u16(value as u16 | 0x4000),
        4 => out.put_u32(value as u32 | 0x8000_0000),
        _ => out.put_u64(value | 0xc000_0000_0000_0000),
    }
}

/// Reads one value from the front of `input` without consuming: the value and how many bytes it took.
/// `None` when more bytes are needed.
#[must_use]
pub fn peek(input: &[u8]) -> Option<(u64, usize)> {
    let first = *input.first()?;
    let size = 1usize << (first >> 6);
    let bytes = input.get(..size)?;
    let mut value = u64::from(first & 0x3f);
    for byte in &bytes[1..] {
        value = value << 8 | u64::from(*byte);
    }
    Some((value, size))
}

/// Consumes one value; `None` (and nothing consumed) when more bytes are needed.
pub fn take(input: &mut impl Buf) -> Option<u64> {
    // A Buf's chunk may end inside the varint; copy at most eight bytes.
    let mut head = [0u8; 8];
    let available = input.remaining().min(8);
    let chunk = input.chunk();
    let (value, size) = if chunk.len() >= available {
        peek(&chunk[..available])?
    } else {
        let mut copied = 0;
        let mut rest = [std::io::IoSlice::new(&[]); 8];
        let filled = input.chunks_vectored(&mut rest);
        for slice in &rest[..filled] {
            for byte in slice.iter() {
                if copied < available {
                    head[copied] = *byte;
                    copied += 1;
                }
            }
        }
        peek(&head[..copied])?
    };
    input.advance(size);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_examples_of_rfc_9000_appendix_a() {
        for (bytes, value) in [
            (&[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c][..], 151_288_809_941_952_652),
            (&[0x9d, 0x7f, 0x3e, 0x7d], 494_878_333),
            (&[0x7b, 0xbd], 15_293),
            (&[0x25], 37),
            (&[0x40, 0x25], 37),
        ] {
            assert_eq!(peek(bytes), Some((value, bytes.len())));
        }
    }

    proptest! {
        #[test]
        fn what_is_put_is_taken(value in 0..=MAX) {
            let mut out = Vec::new();
            put(&mut out, value);
            prop_assert_eq!(out.len(), len(value));
            prop_assert_eq!(peek(&out), Some((value, out.len())));
            prop_assert_eq!(take(&mut &out[..]), Some(value));
            prop_assert_eq!(peek(&out[..out.len() - 1]), None);
        }
    }
}
