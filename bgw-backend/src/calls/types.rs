//! The type of a call: a tag for machines, a signature for people.

use super::format::VERSION;
use super::schema;
use bgw_core::internals::CallType;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::any::{TypeId, type_name};
use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

/// A value that a call can carry: `Serialize` and `DeserializeOwned`. Types that derive both of
/// serde's traits are such, without lifetimes of their own.
///
/// Both sides need both: each reads what it writes, to learn what the type is made of.
pub trait CallValue: Serialize + DeserializeOwned + 'static {}

impl<T: Serialize + DeserializeOwned + 'static> CallValue for T {}

/// The name of a type that the format cannot carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unsupported(pub(crate) &'static str);

type Tag = Result<u64, Unsupported>;

/// Computed once for each pair of types in a process.
static TAGS: RwLock<Option<HashMap<(TypeId, TypeId), Tag>>> = RwLock::new(None);

/// The tag of calls with `I` that give back `O`.
pub(crate) fn tag<I: CallValue, O: CallValue>() -> Tag {
    let types = (TypeId::of::<I>(), TypeId::of::<O>());
    let known = TAGS.read().unwrap_or_else(PoisonError::into_inner);
    if let Some(&tag) = known.as_ref().and_then(|known| known.get(&types)) {
        return tag;
    }
    drop(known);
    let tag = compute::<I, O>();
    let mut known = TAGS.write().unwrap_or_else(PoisonError::into_inner);
    known.get_or_insert_default().insert(types, tag);
    tag
}

fn compute<I: CallValue, O: CallValue>() -> Tag {
    let mut hash = schema::Hash::new();
    hash.add(&[VERSION]);
    for (add, name) in [
        (
            schema::add::<I> as fn(&mut schema::Hash) -> Result<(), schema::NotSelfContained>,
            type_name::<I>(),
        ),
        (schema::add::<O>, type_name::<O>()),
    ] {
        add(&mut hash).map_err(|schema::NotSelfContained| Unsupported(name))?;
        hash.add(b"->");
    }
    // 0 stands for no call.
    Ok(hash.value().max(1))
}

/// The type of a function that is called with `I` and gives back `O`. One that cannot be carried
/// has a tag that no call has.
pub(crate) fn of<I: CallValue, O: CallValue>() -> CallType {
    let signature = signature::<I, O>();
    CallType { tag: tag::<I, O>().unwrap_or(0), signature }
}

pub(crate) fn signature<I: CallValue, O: CallValue>() -> String {
    format!("fn({}) -> {}", type_name::<I>(), type_name::<O>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Untagged {
        Number(u32),
        Text(String),
    }

    #[test]
    fn a_call_has_a_tag_of_both_its_types_and_of_their_order() {
        let tags = [tag::<u8, u16>(), tag::<u16, u8>(), tag::<u8, u8>(), tag::<(), (u8, u8)>()];
        for (at, one) in tags.iter().enumerate() {
            assert!(one.is_ok_and(|tag| tag != 0));
            assert!(tags.iter().skip(at + 1).all(|other| other != one), "{at}");
        }
        assert_eq!(tag::<u8, u16>(), tags[0], "each time the same");
        assert_eq!(of::<u8, String>().signature, "fn(u8) -> alloc::string::String");
    }

    #[test]
    fn a_type_that_asks_what_comes_next_is_named() {
        let name = type_name::<Untagged>();
        assert_eq!(tag::<u8, Untagged>(), Err(Unsupported(name)));
        assert_eq!(tag::<Vec<Untagged>, u8>(), Err(Unsupported(type_name::<Vec<Untagged>>())));
        assert_eq!(of::<Untagged, u8>().tag, 0);
    }
}
