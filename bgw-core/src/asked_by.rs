//! Who asked a worker to end.

use std::fmt;

/// Who asked for the end of a worker. If several did, its report names the one that comes last in
/// this list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum AskedBy {
    /// Its [recycling](crate::Recycle), or a roll: its next run takes its place.
    Recycle,
    /// Its group: another member has failed.
    Group,
    /// A crash reset, for which all workers quit.
    Reset,
    /// A shutdown of the cluster, or the end of its launcher.
    Shutdown,
    /// `terminate` of the worker's handle, or of the registration before its start.
    Terminate,
    /// The end of the process that submitted it: it was a [job](crate::Orphaned::Terminate).
    Submitter,
    /// `kill` of the worker's handle.
    Kill,
}

impl AskedBy {
    /// As it lies in a record; 0 is nobody.
    pub(crate) const fn code(self) -> u16 {
        match self {
            Self::Recycle => 5,
            Self::Reset => 1,
            Self::Shutdown => 2,
            Self::Terminate => 3,
            Self::Kill => 4,
            Self::Group => 6,
            Self::Submitter => 7,
        }
    }

    /// `Err` for a code that means nothing.
    pub(crate) const fn from_code(code: u16) -> Result<Option<Self>, ()> {
        Ok(Some(match code {
            0 => return Ok(None),
            1 => Self::Reset,
            2 => Self::Shutdown,
            3 => Self::Terminate,
            4 => Self::Kill,
            5 => Self::Recycle,
            6 => Self::Group,
            7 => Self::Submitter,
            _ => return Err(()),
        }))
    }
}

impl fmt::Display for AskedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Recycle => "its recycling",
            Self::Group => "its group",
            Self::Reset => "a crash reset",
            Self::Shutdown => "a shutdown",
            Self::Terminate => "terminate",
            Self::Submitter => "the end of its submitter",
            Self::Kill => "kill",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::AskedBy;

    #[test]
    fn each_comes_back_from_its_code_and_no_other_number_means_anybody() {
        let all = [
            AskedBy::Recycle,
            AskedBy::Group,
            AskedBy::Reset,
            AskedBy::Shutdown,
            AskedBy::Terminate,
            AskedBy::Submitter,
            AskedBy::Kill,
        ];
        for by in all {
            assert_eq!(AskedBy::from_code(by.code()), Ok(Some(by)));
        }
        assert_eq!(AskedBy::from_code(0), Ok(None));
        let known = (0..=1000).filter(|&code| AskedBy::from_code(code).is_ok()).count();
        assert_eq!(known, all.len() + 1);
    }
}
