//! A reader's side. See the head of `ring` for N3 to N5.

use super::error::{CursorError, RingError};
use super::shared::Ring;
use crate::cell::{CellRef, load_acquire};
use crate::futex::{Half, Watch};
use crate::memory::Memory;
use crate::primitive::{Ordering, fence};
use crate::words;
use bytemuck::Pod;

/// How often a read tries. Each further try needs a value to be overwritten during its copy.
const TRIES: u32 = 64;

/// Where one reader stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    next: u64,
    missed: u64,
}

impl Cursor {
    const fn at(next: u64) -> Self {
        Self { next, missed: 0 }
    }

    /// The number of the value that is read next, unless it is missed.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.next
    }

    /// How many values this reader has missed since it began: they were overwritten before it came
    /// to read them. Exact, as of its last read.
    #[must_use]
    pub const fn missed(&self) -> u64 {
        self.missed
    }

    /// Moves on to `next`, and skips what comes before it.
    const fn skip_to(&mut self, next: u64) {
        self.missed = self.missed.saturating_add(next.saturating_sub(self.next));
        self.next = next;
    }
}

/// What an entry held.
enum Found<T> {
    Value(T),
    /// A later value, or one that is being written.
    Overwritten,
    /// An earlier value.
    Earlier,
}

impl<T: Pod, M: Memory> Ring<T, M> {
    /// How many values were appended so far: the number of the next one.
    #[must_use]
    pub fn count(&self) -> u64 {
        load_acquire(self.count_cell()) // N4
    }

    /// A cursor behind the last value: it reads what is appended from now on.
    #[must_use]
    pub fn newest(&self) -> Cursor {
        Cursor::at(self.count())
    }

    /// A cursor at the oldest value that the ring still holds.
    #[must_use]
    pub fn oldest(&self) -> Cursor {
        Cursor::at(self.oldest_of(self.count()))
    }

    /// A cursor at value `number`. If it is no longer there, the first read counts what is missed.
    ///
    /// # Errors
    /// [`CursorError`]: the number is above the next value's.
    pub fn cursor_at(&self, number: u64) -> Result<Cursor, CursorError> {
        let next = self.count();
        if number > next {
            return Err(CursorError { number, next });
        }
        Ok(Cursor::at(number))
    }

    fn oldest_of(&self, count: u64) -> u64 {
        count.saturating_sub(u64::from(self.entries()))
    }

    /// Reads the next value: its number, and a copy. `None` when there is none yet. Values that
    /// were overwritten before they could be read are skipped and counted ([`Cursor::missed`]).
    ///
    /// Bounded: a writer that overwrites 64 values in a row while they are copied is a `None`, too,
    /// and a wait on [`Ring::watches`] returns at once then.
    ///
    /// # Errors
    /// [`RingError`]. The cursor stands where it stood, or further on.
    pub fn next(&self, cursor: &mut Cursor) -> Result<Option<(u64, T)>, RingError> {
        for _ in 0..TRIES {
            let count = self.count();
            if count < cursor.next {
                return Err(RingError::Count { count, next: cursor.next });
            }
            if count == cursor.next {
                return Ok(None);
            }
            let number = cursor.next.max(self.oldest_of(count));
            cursor.skip_to(number);
            match self.copy(number) {
                Found::Value(value) => {
                    cursor.next = number.saturating_add(1);
                    return Ok(Some((number, value)));
                }
                Found::Overwritten => cursor.skip_to(number.saturating_add(1)),
                Found::Earlier => return Err(RingError::Entry { number }),
            }
        }
        Ok(None)
    }

    /// Copies the value of `number`, which is below the count.
    fn copy(&self, number: u64) -> Found<T> {
        let (mark, cells) = self.entry(number);
        let expected = number.saturating_add(1);
        match load_acquire(mark) /* N3 */ {
            found if found == expected => {}
            found if found != 0 && found < expected => return Found::Earlier,
            _ => return Found::Overwritten,
        }
        let mut value = T::zeroed();
        words::load(cells, bytemuck::bytes_of_mut(&mut value));
        fence(Ordering::Acquire); // N5, pairs with N2
        if mark.load(Ordering::Relaxed) == expected {
            Found::Value(value)
        } else {
            Found::Overwritten
        }
    }

    /// The watches that end a wait when a value is appended behind `cursor`. A reader that found
    /// none waits on them; see [`futex::wait_any`](crate::futex::wait_any).
    ///
    /// Both halves of the count, the one that is woken first: should the low half come around to
    /// the same value while the reader is about to sleep, the high half differs.
    #[must_use]
    pub fn watches(&self, cursor: &Cursor) -> [Watch<'_>; 2] {
        let cell = CellRef(self.count_cell());
        let seen = cursor.next;
        [
            Watch { cell, half: Half::Low, seen: seen as u32 },
            Watch { cell, half: Half::High, seen: (seen >> 32) as u32 },
        ]
    }
}
