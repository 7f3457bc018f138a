//! What a task may fail with.

/// Any failure of a task, with a text for the user.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;
