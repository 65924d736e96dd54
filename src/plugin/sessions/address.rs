//! Finds by a client's address in the broker's memory.
//!
//! Addresses aren't chosen by clients, so a multiplication spreads them well enough, and no key is needed.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Spreads addresses of allocated memory, whose lowest bits are all alike.
#[derive(Default)]
pub(in crate::plugin) struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {}

    fn write_usize(&mut self, address: usize) {
        let spread = (address as u64 >> 4).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = spread ^ (spread >> 32);
    }
}

pub(super) type ByAddress<T> = HashMap<usize, T, BuildHasherDefault<AddressHasher>>;
