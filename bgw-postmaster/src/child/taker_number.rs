//! The numbers of spares that who registers a worker may wake.

use bgw_core::internals::MOST_TAKERS;
use std::cell::Cell;
use std::rc::Rc;

/// The numbers of spares that who registers may wake. Each is one spare's at a time.
#[derive(Clone, Debug)]
pub(crate) struct TakerNumbers(Rc<Cell<u64>>);

const _: () = assert!(MOST_TAKERS == u64::BITS);

impl TakerNumbers {
    pub(crate) fn new() -> Self {
        Self(Rc::new(Cell::new(0)))
    }

    /// A number that no process has; `None` if all are taken.
    pub(crate) fn take(&self) -> Option<TakerNumber> {
        let taken = self.0.get();
        let number = taken.trailing_ones();
        (number < MOST_TAKERS).then(|| {
            self.0.set(taken | 1 << number);
            TakerNumber { number, taken: Rc::clone(&self.0) }
        })
    }
}

/// A number among [`TakerNumbers`], given back when this is dropped.
#[derive(Debug)]
pub(crate) struct TakerNumber {
    number: u32,
    taken: Rc<Cell<u64>>,
}

impl TakerNumber {
    pub(crate) const fn get(&self) -> u32 {
        self.number
    }
}

impl Drop for TakerNumber {
    fn drop(&mut self) {
        self.taken.set(self.taken.get() & !(1 << self.number));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_one_spare_s_at_a_time() {
        let numbers = TakerNumbers::new();
        let mut all: Vec<_> = (0..MOST_TAKERS).map(|_| numbers.take().unwrap()).collect();
        assert!(numbers.take().is_none());
        assert!(all.iter().map(TakerNumber::get).eq(0..MOST_TAKERS));
        drop(all.remove(5));
        assert_eq!(numbers.take().map(|number| number.get()), Some(5));
    }
}
