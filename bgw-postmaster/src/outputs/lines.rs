//! Bytes become lines. Pure.

/// The longest line in bytes; a longer one comes in pieces.
pub(super) const PIECE: usize = 8 << 10;
/// Ends each piece of a line that is cut, except the last.
const MARK: &[u8] = b"\\\n";

/// What has come of a line that has no end yet.
#[derive(Debug, Default)]
pub(super) struct Lines {
    begun: Vec<u8>,
}

impl Lines {
    /// Takes `bytes`, and appends the lines that are whole to `whole`, each with its newline.
    pub(super) fn take(&mut self, bytes: &[u8], whole: &mut Vec<u8>) {
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            self.take_part(part, whole);
        }
    }

    /// What has come of the line that has no end yet.
    pub(super) fn begun(&self) -> &[u8] {
        &self.begun
    }

    /// No more bytes come: what has begun is a line.
    pub(super) fn end(&mut self, whole: &mut Vec<u8>) {
        if !self.begun.is_empty() {
            whole.append(&mut self.begun);
            whole.push(b'\n');
        }
    }

    /// A newline is its last byte, if it has one.
    fn take_part(&mut self, mut part: &[u8], whole: &mut Vec<u8>) {
        let has_end = part.last() == Some(&b'\n');
        while self.begun.len() + part.len() - usize::from(has_end) > PIECE {
            let (head, rest) = part.split_at(PIECE - self.begun.len());
            whole.append(&mut self.begun);
            whole.extend(head);
            whole.extend(MARK);
            part = rest;
        }
        if has_end {
            whole.append(&mut self.begun);
            whole.extend(part);
        } else {
            self.begun.extend(part);
        }
    }
}

/// How many bytes of whole lines fit into `room`, but at least the first line if `room` is that of
/// an empty file.
pub(super) fn fitting(lines: &[u8], room: u64, empty: bool) -> usize {
    let room = usize::try_from(room).unwrap_or(usize::MAX);
    let end_of = |newline: Option<usize>| newline.map(|at| at + 1);
    if lines.len() <= room {
        return lines.len();
    }
    let some = lines.get(..room).unwrap_or_default();
    let whole = end_of(some.iter().rposition(|&byte| byte == b'\n'));
    let first = || end_of(lines.iter().position(|&byte| byte == b'\n')).unwrap_or(lines.len());
    whole.unwrap_or_else(|| if empty { first() } else { 0 })
}

/// How many lines these are.
pub(super) fn count(lines: &[u8]) -> u64 {
    lines.iter().filter(|&&byte| byte == b'\n').count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(parts: &[&[u8]]) -> Vec<u8> {
        let (mut lines, mut whole) = (Lines::default(), Vec::new());
        parts.iter().for_each(|part| lines.take(part, &mut whole));
        lines.end(&mut whole);
        whole
    }

    /// Breaks if a line is torn, merged with the next, or lost, wherever the reads cut it.
    #[test]
    fn lines_come_whole_wherever_they_are_cut() {
        let text = b"one\n\ntwo and more\nthe last";
        for first in 0..text.len() {
            for second in first..text.len() {
                let parts = [&text[..first], &text[first..second], &text[second..]];
                assert_eq!(lines_of(&parts), b"one\n\ntwo and more\nthe last\n");
            }
        }
        assert!(lines_of(&[]).is_empty() && lines_of(&[b""]).is_empty());
    }

    #[test]
    fn a_line_without_an_end_takes_no_more_memory_than_a_piece() {
        let (mut lines, mut whole) = (Lines::default(), Vec::new());
        for _ in 0..100 {
            lines.take(&[b'x'; 1000], &mut whole);
            assert!(lines.begun.len() <= PIECE);
        }
    }

    /// Breaks if a piece has no mark, a line of just the limit has one, or bytes are lost.
    #[test]
    fn a_long_line_comes_in_marked_pieces() {
        for (len, pieces) in [(PIECE, 1), (PIECE + 1, 2), (2 * PIECE, 2), (2 * PIECE + 1, 3)] {
            for cut in [1, PIECE - 1, PIECE] {
                let mut text = vec![b'x'; len];
                text.push(b'\n');
                let whole = lines_of(&[&text[..cut], &text[cut..]]);
                assert_eq!(count(&whole), pieces, "{len}");
                let plain: Vec<u8> = whole.iter().filter(|&&b| b == b'x').copied().collect();
                assert_eq!(plain.len(), len);
                let marks = whole.windows(2).filter(|two| two == b"\\\n").count() as u64;
                assert_eq!(marks, pieces - 1);
            }
        }
    }

    #[test]
    fn a_file_takes_the_lines_that_fit() {
        let lines = b"one\ntwo\nthree\n";
        for (room, fit) in [(0, 0), (3, 0), (4, 4), (7, 4), (8, 8), (13, 8), (14, 14), (99, 14)] {
            assert_eq!(fitting(lines, room, false), fit);
        }
        assert_eq!(fitting(lines, 2, true), 4);
    }
}
