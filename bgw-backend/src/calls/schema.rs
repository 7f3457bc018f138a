//! What a type is made of, as a hash: two types have the same one if the format carries them alike
//! and their structs, fields, enums and variants have the same names.
//!
//! The type is asked by its own `Deserialize`: a reader that has no data hands out a harmless value
//! for whatever it is asked for, and writes down the question. An enum is read once for each of its
//! variants. A struct or enum that contains itself is followed once.
//!
//! A type whose `Deserialize` refuses the harmless value (a URL that may not be empty) ends its
//! part of the questions there, on both sides at the same place.

use serde::de::value::U32Deserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess,
    SeqAccess, VariantAccess, Visitor,
};
use std::collections::HashMap;
use std::fmt;

/// A type asks what comes next, which the format does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotSelfContained;

/// FNV-1a.
#[derive(Debug)]
pub(super) struct Hash(u64);

impl Hash {
    pub(super) const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    pub(super) fn add(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// Names are told apart from each other and from what follows.
    fn name(&mut self, name: &str) {
        self.add(name.as_bytes());
        self.add(&[0]);
    }

    pub(super) const fn value(&self) -> u64 {
        self.0
    }
}

/// How deep values lie in each other at most. What lies deeper is not asked for.
const DEPTH: usize = 64;
/// How many readings one type takes at most: one for each variant of its enums, about.
const READINGS: usize = 4096;

/// Adds what `T` is made of.
///
/// # Errors
/// It asks what comes next.
pub(super) fn add<T: DeserializeOwned>(hash: &mut Hash) -> Result<(), NotSelfContained> {
    let mut enums = HashMap::new();
    for _ in 0..READINGS {
        let mut asks_what_comes = false;
        let reading = Reading { hash, enums: &mut enums, asks_what_comes: &mut asks_what_comes };
        let mut inside = Vec::new();
        // An error: it refuses a harmless value.
        let _ = T::deserialize(Asked { reading, inside: &mut inside });
        if asks_what_comes {
            return Err(NotSelfContained);
        }
        if enums.values().all(|seen: &Seen| seen.next >= seen.count) {
            break;
        }
    }
    Ok(())
}

/// Structs and enums by their names and the place of their fields' or variants' names.
type Named = (&'static str, usize);

/// The variants of an enum that were read.
struct Seen {
    next: u32,
    count: u32,
}

/// One reading of the whole type.
struct Reading<'a> {
    hash: &'a mut Hash,
    enums: &'a mut HashMap<Named, Seen>,
    asks_what_comes: &'a mut bool,
}

impl Reading<'_> {
    const fn again(&mut self) -> Reading<'_> {
        Reading { hash: self.hash, enums: self.enums, asks_what_comes: self.asks_what_comes }
    }
}

/// The reader, where a value is asked for inside of others.
struct Asked<'a, 'b> {
    reading: Reading<'a>,
    inside: &'b mut Vec<Named>,
}

/// A harmless value was refused, or lies too deep.
#[derive(Debug)]
struct Refused;

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no value of this type is known")
    }
}

impl std::error::Error for Refused {}

impl serde::de::Error for Refused {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

impl Asked<'_, '_> {
    fn again(&mut self) -> Asked<'_, '_> {
        Asked { reading: self.reading.again(), inside: self.inside }
    }

    fn add(&mut self, bytes: &[u8]) {
        self.reading.hash.add(bytes);
    }

    /// True if there is room for a value inside of `named`, and none of that kind is around.
    fn may_enter(&self, named: Named) -> bool {
        self.inside.len() < DEPTH && !self.inside.contains(&named)
    }
}

/// Scalars: what is asked for, and the value that it gets. Not 0, which some types refuse.
macro_rules! scalars {
    ($($method:ident $visit:ident $letter:literal $value:expr;)*) => {$(
        fn $method<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Refused> {
            self.add($letter);
            visitor.$visit($value)
        }
    )*};
}

impl<'de> Deserializer<'de> for Asked<'_, '_> {
    type Error = Refused;

    scalars! {
        deserialize_bool visit_bool b"b" true;
        deserialize_i8 visit_i8 b"i1" 1;
        deserialize_i16 visit_i16 b"i2" 1;
        deserialize_i32 visit_i32 b"i4" 1;
        deserialize_i64 visit_i64 b"i8" 1;
        deserialize_i128 visit_i128 b"iq" 1;
        deserialize_u8 visit_u8 b"u1" 1;
        deserialize_u16 visit_u16 b"u2" 1;
        deserialize_u32 visit_u32 b"u4" 1;
        deserialize_u64 visit_u64 b"u8" 1;
        deserialize_u128 visit_u128 b"uq" 1;
        deserialize_f32 visit_f32 b"f4" 1.0;
        deserialize_f64 visit_f64 b"f8" 1.0;
        deserialize_char visit_char b"c" 'a';
        deserialize_str visit_str b"s" "";
        deserialize_string visit_str b"s" "";
        deserialize_bytes visit_bytes b"y" &[];
        deserialize_byte_buf visit_bytes b"y" &[];
    }

    fn deserialize_unit<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Refused> {
        self.add(b"n");
        visitor.visit_unit()
    }

    fn is_human_readable(&self) -> bool {
        false
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Refused> {
        *self.reading.asks_what_comes = true;
        Err(Refused)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.deserialize_any(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.deserialize_any(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Refused> {
        self.add(b"?");
        if self.inside.len() >= DEPTH {
            return visitor.visit_none();
        }
        visitor.visit_some(self)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.add(b"U");
        self.reading.hash.name(name);
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.add(b"N");
        self.reading.hash.name(name);
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Refused> {
        self.add(b"[");
        let left = usize::from(self.inside.len() < DEPTH);
        visitor.visit_seq(Parts { asked: self, left })
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        mut self,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.add(b"(");
        self.add(&(len as u64).to_le_bytes());
        visitor.visit_seq(Parts { asked: self, left: len })
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.add(b"T");
        self.reading.hash.name(name);
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Refused> {
        self.add(b"{");
        let left = usize::from(self.inside.len() < DEPTH);
        visitor.visit_map(Parts { asked: self, left })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.add(b"S");
        self.reading.hash.name(name);
        fields.iter().for_each(|field| self.reading.hash.name(field));
        let named = (name, fields.as_ptr().addr());
        if !self.may_enter(named) {
            return Err(Refused);
        }
        self.inside.push(named);
        let Asked { reading, inside } = self;
        let parts = Parts { asked: Asked { reading, inside: &mut *inside }, left: fields.len() };
        let read = visitor.visit_seq(parts);
        inside.pop();
        read
    }

    fn deserialize_enum<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.add(b"E");
        self.reading.hash.name(name);
        variants.iter().for_each(|variant| self.reading.hash.name(variant));
        let named = (name, variants.as_ptr().addr());
        if !self.may_enter(named) || variants.is_empty() {
            return Err(Refused);
        }
        // An enum of more variants cannot be written down.
        let count = u32::try_from(variants.len()).unwrap_or(u32::MAX);
        let seen = self.reading.enums.entry(named).or_insert(Seen { next: 0, count });
        let variant = if seen.next < count { seen.next } else { 0 };
        seen.next = seen.next.saturating_add(1);
        self.inside.push(named);
        let Asked { reading, inside } = self;
        let read = visitor.visit_enum(Variant {
            asked: Asked { reading, inside: &mut *inside },
            number: variant,
        });
        inside.pop();
        read
    }
}

/// The parts of a sequence, a tuple, a struct or a map.
struct Parts<'a, 'b> {
    asked: Asked<'a, 'b>,
    left: usize,
}

impl Parts<'_, '_> {
    fn next<'de, S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Refused> {
        let Some(left) = self.left.checked_sub(1) else {
            self.asked.add(b".");
            return Ok(None);
        };
        self.left = left;
        seed.deserialize(self.asked.again()).map(Some)
    }
}

impl<'de> SeqAccess<'de> for Parts<'_, '_> {
    type Error = Refused;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Refused> {
        self.next(seed)
    }
}

impl<'de> MapAccess<'de> for Parts<'_, '_> {
    type Error = Refused;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Refused> {
        self.next(seed)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Refused> {
        seed.deserialize(self.asked.again())
    }
}

/// One variant of an enum.
struct Variant<'a, 'b> {
    asked: Asked<'a, 'b>,
    number: u32,
}

impl<'de> EnumAccess<'de> for Variant<'_, '_> {
    type Error = Refused;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(
        mut self,
        seed: S,
    ) -> Result<(S::Value, Self), Refused> {
        self.asked.add(&self.number.to_le_bytes());
        let number: U32Deserializer<Refused> = self.number.into_deserializer();
        Ok((seed.deserialize(number)?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_, '_> {
    type Error = Refused;

    fn unit_variant(mut self) -> Result<(), Refused> {
        self.asked.add(b"n");
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Refused> {
        seed.deserialize(self.asked)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Refused> {
        self.asked.deserialize_tuple(len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        fields.iter().for_each(|field| self.asked.reading.hash.name(field));
        self.asked.deserialize_tuple(fields.len(), visitor)
    }
}

#[cfg(test)]
mod tests;
