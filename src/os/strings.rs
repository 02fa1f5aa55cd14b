//! The strings of an exec in one piece of memory.
//!
//! After a clone each page that the keeper touches is copied: an environment in pieces of its own would lie scattered over many.

use nix::errno::Errno;
use serde::de::{self, SeqAccess, Visitor};
use serde::ser::SerializeSeq;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::ffi::c_char;
use std::fmt;

/// C strings, one after another, each closed by a zero. In JSON a list of strings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Strings {
    bytes: Vec<u8>,
}

impl Strings {
    /// # Errors
    /// `EINVAL` where one holds a zero.
    pub fn new(texts: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Strings, Errno> {
        let mut all = Strings::default();
        texts.into_iter().try_for_each(|text| all.push(text.as_ref()))?;
        Ok(all)
    }

    fn push(&mut self, text: &str) -> Result<(), Errno> {
        if text.as_bytes().contains(&0) {
            return Err(Errno::EINVAL);
        }
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(0);
        Ok(())
    }

    /// Each, with its zero.
    fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.split_inclusive(|byte| *byte == 0)
    }

    /// Where each begins, as execve(2) wants it but for the null at the end. They hold as long as this is neither changed nor dropped.
    #[must_use]
    pub fn pointers(&self) -> Vec<*const c_char> {
        self.pieces().map(|piece| piece.as_ptr().cast()).collect()
    }
}

impl Serialize for Strings {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        for piece in self.pieces() {
            let text = std::str::from_utf8(&piece[..piece.len() - 1]).map_err(serde::ser::Error::custom)?;
            list.serialize_element(text)?;
        }
        list.end()
    }
}

impl<'de> Deserialize<'de> for Strings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Strings, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Strings;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of strings")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Strings, A::Error> {
                let mut all = Strings::default();
                while list.next_element_seed(Next(&mut all))?.is_some() {}
                Ok(all)
            }
        }
        deserializer.deserialize_seq(List)
    }
}

/// Takes a string without a piece of memory of its own.
struct Next<'a>(&'a mut Strings);

impl<'de> de::DeserializeSeed<'de> for Next<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Next<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string without a zero")
    }
    fn visit_str<E: de::Error>(self, text: &str) -> Result<(), E> {
        self.0.push(text).map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_travel_as_a_list() {
        let all = Strings::new(["A=1", "", "B=\"ä\n\""]).unwrap();
        let json = serde_json::to_string(&all).unwrap();
        assert_eq!(json, r#"["A=1","","B=\"ä\n\""]"#);
        assert_eq!(serde_json::from_str::<Strings>(&json).unwrap(), all);
        assert_eq!(all.pointers().len(), 3);
        assert!(Strings::default().pointers().is_empty());
    }

    #[test]
    fn a_zero_within_is_refused() {
        assert_eq!(Strings::new(["A=\0B=2"]), Err(Errno::EINVAL));
        assert!(serde_json::from_str::<Strings>(r#"["A=\u0000B=2"]"#).is_err());
    }
}
