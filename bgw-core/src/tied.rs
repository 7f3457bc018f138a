//! What the layer above keeps with an attachment: dropped with it.

use std::any::Any;
use std::sync::OnceLock;

/// One value, of a type that this crate does not know.
#[derive(Debug, Default)]
pub struct Tied(OnceLock<Box<dyn Any + Send + Sync>>);

impl Tied {
    /// The value, if there is one and it is a `T`. One load where there is none.
    #[must_use]
    pub fn get<T: Any>(&self) -> Option<&T> {
        self.0.get()?.downcast_ref()
    }

    /// As [`Tied::get`]; if there is no value yet, `make` makes it.
    #[must_use]
    pub fn get_or<T: Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> Option<&T> {
        self.0.get_or_init(|| Box::new(make())).downcast_ref()
    }
}
