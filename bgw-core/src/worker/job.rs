//! Workers that are jobs: whoever registers one waits for its outcome.

/// What becomes of a job when the process that submitted it has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Orphaned {
    /// It is terminated, since nobody is left who waits for its outcome.
    Terminate,
    /// It goes on, as any other worker does.
    GoOn,
}

impl Orphaned {
    /// As it lies in a slot; 0 is no job.
    pub(crate) const fn code(self) -> u32 {
        match self {
            Self::Terminate => 1,
            Self::GoOn => 2,
        }
    }

    /// `Err` for a code that means nothing.
    pub(crate) const fn from_code(code: u32) -> Result<Option<Self>, ()> {
        match code {
            0 => Ok(None),
            1 => Ok(Some(Self::Terminate)),
            2 => Ok(Some(Self::GoOn)),
            _ => Err(()),
        }
    }
}
