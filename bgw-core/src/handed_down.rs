//! A share of the attachment for the next child of a postmaster: it finds it in its copy of the
//! memory, and takes it. To make one of its own it would write to a count, on another page, which
//! the kernel would copy.

use crate::attachment::Attachment;
use std::sync::{Arc, Mutex, PoisonError};

/// The share, or none.
#[derive(Debug)]
pub(crate) struct HandedDown(Mutex<Option<Arc<Attachment>>>);

impl HandedDown {
    pub(crate) const fn nothing() -> Self {
        Self(Mutex::new(None))
    }

    /// In the postmaster; `None` once it is none.
    pub(crate) fn put(&self, share: Option<Arc<Attachment>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = share;
    }

    /// In a child: its share of `attachment`.
    pub(crate) fn take(&self, attachment: &Arc<Attachment>) -> Arc<Attachment> {
        let share = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let own = share.filter(|share| Arc::ptr_eq(share, attachment));
        own.unwrap_or_else(|| Arc::clone(attachment))
    }
}
