//! One list of two origins: packet bytes or values.
//!
//! Bytes are only ever bytes that have been read through once without an error, so that iterating
//! over them can't fail.

use std::fmt;

use crate::error::{DecodeError, EncodeError};
use crate::wire::Reader;

/// An entry of a list in a packet.
pub(crate) trait Element<'a>: Copy + PartialEq + fmt::Debug {
    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError>;
    fn encoded_len(&self) -> usize;
    fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError>;
}

#[derive(Clone, Copy)]
pub(crate) enum Sequence<'a, T> {
    Wire(&'a [u8]),
    List(&'a [T]),
}

impl<'a, T: Element<'a>> Sequence<'a, T> {
    pub(crate) fn encoded_len(&self) -> usize {
        match self {
            Self::Wire(bytes) => bytes.len(),
            Self::List(list) => list.iter().map(Element::encoded_len).sum(),
        }
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match self {
            Self::Wire(bytes) => out.extend_from_slice(bytes),
            Self::List(list) => {
                for element in *list {
                    element.write(out)?;
                }
            }
        }
        Ok(())
    }

    pub(crate) const fn iter(&self) -> Elements<'a, T> {
        match self {
            Self::Wire(bytes) => Elements::Wire(Reader::new(bytes)),
            Self::List(list) => Elements::List(list),
        }
    }
}

impl<'a, T: Element<'a>> PartialEq for Sequence<'a, T> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<'a, T: Element<'a>> fmt::Debug for Sequence<'a, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[derive(Clone)]
pub(crate) enum Elements<'a, T> {
    Wire(Reader<'a>),
    List(&'a [T]),
}

impl<'a, T: Element<'a>> Iterator for Elements<'a, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        match self {
            Self::Wire(reader) if reader.is_empty() => None,
            Self::Wire(reader) => T::read(reader).ok(),
            Self::List(list) => {
                let (first, rest) = list.split_first()?;
                *list = rest;
                Some(*first)
            }
        }
    }
}
