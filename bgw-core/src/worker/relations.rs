//! What a worker is to others: whether its name is unique, which workers it starts after, which
//! group it belongs to, which template it is forked from.

/// What has to be true of another worker before one starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum After {
    /// A process runs for it.
    Started,
    /// Its process has reported that it is ready. The worker must [declare](crate::Ready) that it
    /// does.
    Ready,
    /// It has exited with 0 once, without having been asked to end.
    Done,
}

impl After {
    /// Its number in shared memory.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Started => 1,
            Self::Ready => 2,
            Self::Done => 3,
        }
    }

    /// That of a number; `None` for any other number.
    pub(crate) const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Started),
            2 => Some(Self::Ready),
            3 => Some(Self::Done),
            _ => None,
        }
    }
}

/// What a description says about others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Relations {
    /// No other worker with a unique name has this one.
    pub(crate) unique: bool,
    /// The unique workers that it starts after, by name, and what each must have reached.
    pub(crate) after: Vec<(String, After)>,
    pub(crate) group: Option<String>,
    /// It may have the slots that are reserved for this class.
    pub(crate) class: Option<String>,
    /// It is forked from the template of this name.
    pub(crate) template: Option<String>,
}

impl Relations {
    /// True if it matters which of two workers was registered first.
    pub(crate) fn have_order(&self) -> bool {
        self.group.is_some() || !self.after.is_empty()
    }

    /// How many bytes the names take in a slot: each has a NUL, and each target a code.
    pub(super) fn len(&self) -> usize {
        let own = self.group.iter().chain(&self.class).chain(&self.template);
        let own: usize = own.map(|name| name.len() + 1).sum();
        self.after.iter().map(|(name, _)| name.len() + 2).sum::<usize>() + own
    }
}
