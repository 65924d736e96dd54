//! Hashes short texts under a secret key.
//!
//! SipHash-1-3 (Aumasson and Bernstein, "SipHash: a fast short-input PRF"): who doesn't know the key can't choose texts that
//! fall together. The standard library's is the same function behind an interface that copies each piece through a buffer.

use std::fmt;
use std::hash::{BuildHasher, RandomState};

/// The secret that hashes depend on.
#[derive(Clone)]
pub struct SipKey([u64; 2]);

impl SipKey {
    /// Returns the key made of 128 random bits.
    #[must_use]
    pub fn new(secret: [u64; 2]) -> Self {
        Self(secret)
    }

    /// Returns a key that nobody has seen.
    #[must_use]
    pub fn random() -> Self {
        let state = RandomState::new();
        Self([state.hash_one(0_u8), state.hash_one(1_u8)])
    }

    /// Hashes `first` and `bytes`; the same bytes behind another number have another hash.
    #[must_use]
    #[inline]
    pub fn hash(&self, first: u64, bytes: &[u8]) -> u64 {
        let [k0, k1] = self.0;
        let mut state =
            Sip([k0 ^ 0x736f_6d65_7073_6575, k1 ^ 0x646f_7261_6e64_6f6d, k0 ^ 0x6c79_6765_6e65_7261, k1 ^ 0x7465_6462_7974_6573]);
        state.absorb(first);
        let (blocks, rest) = bytes.as_chunks::<8>();
        for block in blocks {
            state.absorb(u64::from_le_bytes(*block));
        }
        let length = (bytes.len() as u64 + 8) << 56;
        state.absorb(rest.iter().rev().fold(0, |last, &byte| (last << 8) | u64::from(byte)) | length);
        state.finish()
    }
}

impl fmt::Debug for SipKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SipKey(secret)")
    }
}

struct Sip([u64; 4]);

impl Sip {
    #[inline]
    fn absorb(&mut self, block: u64) {
        self.0[3] ^= block;
        self.round();
        self.0[0] ^= block;
    }

    #[inline]
    fn finish(mut self) -> u64 {
        self.0[2] ^= 0xff;
        (0..3).for_each(|_| self.round());
        self.0.into_iter().fold(0, |hash, part| hash ^ part)
    }

    #[inline]
    fn round(&mut self) {
        let [v0, v1, v2, v3] = &mut self.0;
        *v0 = v0.wrapping_add(*v1);
        *v2 = v2.wrapping_add(*v3);
        *v1 = v1.rotate_left(13) ^ *v0;
        *v3 = v3.rotate_left(16) ^ *v2;
        *v0 = v0.rotate_left(32).wrapping_add(*v3);
        *v2 = v2.wrapping_add(*v1);
        *v1 = v1.rotate_left(17) ^ *v2;
        *v3 = v3.rotate_left(21) ^ *v0;
        *v2 = v2.rotate_left(32);
    }
}

#[cfg(test)]
mod tests {
    use std::hash::{DefaultHasher, Hasher};

    use super::*;

    #[test]
    fn the_hash_is_that_of_the_standard_library() {
        // With a key of zeros `DefaultHasher` is SipHash-1-3 too.
        for length in 0..40u8 {
            let bytes: Vec<u8> = (0..length).map(|byte| byte.wrapping_mul(37)).collect();
            let mut expected = DefaultHasher::new();
            expected.write(&7u64.to_le_bytes());
            expected.write(&bytes);
            assert_eq!(SipKey::new([0, 0]).hash(7, &bytes), expected.finish(), "{length}");
        }
    }

    #[test]
    fn the_key_decides_and_is_not_shown() {
        let key = SipKey::new([1, 2]);
        assert_ne!(key.hash(0, b"a"), SipKey::new([1, 3]).hash(0, b"a"));
        assert_ne!(SipKey::random().hash(0, b"a"), SipKey::random().hash(0, b"a"));
        assert_eq!(format!("{key:?}"), "SipKey(secret)");
    }
}
