//! The last lines of workers. Pure.

use super::message::MAX_TEXT;
use shmem_slots::Key;
use std::collections::{HashMap, VecDeque};

/// Of how many workers whose output has ended the lines are remembered.
const ENDED: usize = 1024;

/// The last lines of every worker whose output has not ended, and of those that ended last.
#[derive(Debug, Default)]
pub(super) struct Tails {
    all: HashMap<Key, Tail>,
    /// Those without an output now, oldest first.
    ended: VecDeque<Key>,
}

impl Tails {
    /// An output of the worker of `key` begins.
    pub(super) fn begin(&mut self, key: Key, most: u8) {
        self.ended.retain(|&ended| ended != key);
        self.all.entry(key).or_insert_with(|| Tail::new(most));
    }

    /// The worker of `key` has no output any more.
    pub(super) fn end(&mut self, key: Key) {
        if !self.all.contains_key(&key) {
            return;
        }
        self.ended.push_back(key);
        if self.ended.len() > ENDED {
            let oldest = self.ended.pop_front();
            oldest.and_then(|oldest| self.all.remove(&oldest));
        }
    }

    /// Takes whole lines of the worker of `key`.
    pub(super) fn take(&mut self, key: Key, whole: &[u8]) {
        if let Some(tail) = self.all.get_mut(&key) {
            tail.take(whole);
        }
    }

    /// The last lines of the worker of `key`, and those that have begun, one of each stream. Empty
    /// if nobody remembers any.
    pub(super) fn text(&self, key: Key, begun: &[&[u8]]) -> Vec<u8> {
        self.all.get(&key).map(|tail| tail.text(begun)).unwrap_or_default()
    }
}

/// The last lines of a worker, over all its runs.
#[derive(Debug)]
struct Tail {
    most: usize,
    /// Each with its newline.
    lines: VecDeque<Vec<u8>>,
}

impl Tail {
    const fn new(most: u8) -> Self {
        Self { most: most as usize, lines: VecDeque::new() }
    }

    /// Takes whole lines.
    fn take(&mut self, whole: &[u8]) {
        // Only the end of it can stay.
        let long = whole.len().saturating_sub(2 * MAX_TEXT);
        let end = whole.get(long..).unwrap_or_default();
        for line in end.split_inclusive(|&byte| byte == b'\n') {
            if self.lines.len() >= self.most {
                self.lines.pop_front();
            }
            self.lines.push_back(last_bytes(line).to_vec());
        }
    }

    /// The text of the lines, and of those that have begun, which come last: as many whole lines as
    /// fit, but a part of the last one in any case. Of those that have begun all but the last one
    /// get an end.
    fn text(&self, begun: &[&[u8]]) -> Vec<u8> {
        let mut all: Vec<Vec<u8>> = self.lines.iter().cloned().collect();
        let whole = all.len();
        let begun = begun.iter().filter(|line| !line.is_empty());
        all.extend(begun.map(|line| [line, &b"\n"[..]].concat()));
        if let Some(last) = all.get_mut(whole..).and_then(<[_]>::last_mut) {
            last.pop();
        }
        let mut room = MAX_TEXT;
        let mut fit: Vec<&[u8]> = Vec::new();
        for line in all.iter().rev().take(self.most).map(|line| last_bytes(line)) {
            let Some(left) = room.checked_sub(line.len()) else { break };
            room = left;
            fit.push(line);
        }
        fit.reverse();
        fit.concat()
    }
}

fn last_bytes(line: &[u8]) -> &[u8] {
    line.get(line.len().saturating_sub(MAX_TEXT)..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Breaks if a line too many is kept, the order is lost, or a line that has begun is left out.
    #[test]
    fn the_last_lines_are_kept_in_their_order() {
        let mut tail = Tail::new(3);
        assert!(tail.text(&[]).is_empty());
        tail.take(b"one\ntwo\n");
        assert_eq!(tail.text(&[]), b"one\ntwo\n");
        assert_eq!(tail.text(&[b"beg"]), b"one\ntwo\nbeg");
        tail.take(b"three\nfour\n");
        assert_eq!(tail.text(&[]), b"two\nthree\nfour\n");
        assert_eq!(tail.text(&[b"beg"]), b"three\nfour\nbeg");
        // One of each stream.
        assert_eq!(tail.text(&[b"", b"beg"]), b"three\nfour\nbeg");
        assert_eq!(tail.text(&[b"out", b"err"]), b"four\nout\nerr");
        assert_eq!(tail.text(&[b"out", b""]), b"three\nfour\nout");
    }

    /// Breaks if the next worker of a slot takes the lines of the last one, if the oldest are not
    /// forgotten, or if one that has begun again is.
    #[test]
    fn the_lines_of_those_that_ended_last_are_remembered() {
        let mut tails = Tails::default();
        let key = |generation| Key { index: 1, generation };
        let runs = |tails: &mut Tails, generation| {
            tails.begin(key(generation), 1);
            tails.take(key(generation), format!("{generation}\n").as_bytes());
            tails.end(key(generation));
        };
        let most = ENDED as u64;
        (0..most).for_each(|generation| runs(&mut tails, generation));
        assert_eq!(tails.text(key(0), &[]), b"0\n");
        // It runs again: now 1 is the oldest that has ended.
        tails.begin(key(0), 1);
        runs(&mut tails, most);
        runs(&mut tails, most + 1);
        assert_eq!(tails.text(key(0), &[]), b"0\n");
        assert!(tails.text(key(1), &[]).is_empty());
        assert_eq!(tails.text(key(2), &[]), b"2\n");
        assert_eq!(tails.all.len(), ENDED + 1);
        // Nobody asked to remember this one.
        tails.end(key(u64::MAX));
        assert_eq!(tails.ended.len(), ENDED);
    }

    #[test]
    fn no_more_than_a_packet_is_kept_of_long_lines() {
        let mut tail = Tail::new(100);
        let mut line = vec![b'x'; 3000];
        line.push(b'\n');
        for _ in 0..200 {
            tail.take(&line);
        }
        assert_eq!(tail.text(&[]), line);
        assert_eq!(tail.text(&[&[b'y'; 9000]]), [b'y'; MAX_TEXT]);
        tail.take(&[vec![b'z'; 100_000], b"\n".to_vec()].concat());
        assert_eq!(tail.text(&[]).len(), MAX_TEXT);
        assert!(tail.lines.iter().all(|line| line.len() <= MAX_TEXT));
    }
}
