//! What the checks share.

/// Checks one input after the other.
pub(crate) type Checker = Box<dyn FnMut(&[u8])>;

/// A text may be shown to a user: nothing from outside brings its own line feeds or escapes.
pub(super) fn assert_harmless(text: &str) {
    assert!(!text.is_empty() && !text.chars().any(char::is_control), "{text:?}");
}
