//! What workers write: messages to a notify socket, and output, as its collector reads it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a check panics")]

use bgw_postmaster::internals::{collected, collector_packet, notify_message};

/// The longest message that counts, and the longest line in one piece.
const LONGEST: usize = 4096;
const PIECE: usize = 8192;
/// The most bytes of last lines.
const MOST_TEXT: usize = 4000;

pub(super) fn notify_messages() -> Vec<Vec<u8>> {
    let all: [&[u8]; 4] = [
        b"READY=1\nSTATUS=serves\nMAINPID=7",
        b"WATCHDOG=1",
        b"WATCHDOG=trigger\n",
        b"EXTEND_TIMEOUT_USEC=1500000\nSTATUS=\xff\x1b[0m",
    ];
    all.map(<[u8]>::to_vec).to_vec()
}

/// Each line says one thing at most; a message that is too long says nothing.
pub(super) fn check_notify(bytes: &[u8]) {
    let said = notify_message(bytes);
    assert!(said.len() <= bytes.split(|&byte| byte == b'\n').count());
    assert!(bytes.len() <= LONGEST || said.is_empty());
}

/// The first two bytes say how it is read.
pub(super) fn outputs() -> Vec<Vec<u8>> {
    let long =
        [b"\x40\x03".as_slice(), &[b'x'; PIECE], b"yz\n", &[b'x'; PIECE - 1], b"\n"].concat();
    vec![b"\x01\x02one\ntwo\n\nthe last".to_vec(), b"\x05\x64\n\n\n".to_vec(), long]
}

/// Nothing is lost but to marks of long lines, no line is too long, and the last ones are
/// remembered.
pub(super) fn check_output(bytes: &[u8]) {
    let (read, most, output) = match bytes {
        [read, most, output @ ..] => (usize::from(*read), *most % 101, output),
        _ => (1, 1, bytes),
    };
    let (lines, last) = collected(output, read, most);
    assert_eq!(lines, collected(output, output.len(), most).0, "it depends on how it is read");
    assert!(lines.is_empty() || lines.ends_with(b"\n"));
    let each = lines.split_inclusive(|&byte| byte == b'\n');
    let mut plain = Vec::new();
    for line in each {
        let is_piece = line.len() == PIECE + 2 && line.ends_with(b"\\\n");
        assert!(is_piece || line.len() <= PIECE + 1, "{} bytes", line.len());
        plain.extend(if is_piece { &line[..PIECE] } else { line });
    }
    if !output.is_empty() && !output.ends_with(b"\n") {
        assert_eq!(plain.pop(), Some(b'\n'));
    }
    assert_eq!(plain, output);
    assert!(last.len() <= MOST_TEXT);
    let count = |text: &[u8]| text.iter().filter(|&&byte| byte == b'\n').count();
    assert!(count(&last) <= usize::from(most));
}

pub(super) fn packets() -> Vec<Vec<u8>> {
    let numbers = |kind: u8, numbers: &[u64], rest: &[u8]| {
        let numbers = numbers.iter().flat_map(|number| number.to_le_bytes());
        [kind].into_iter().chain(numbers).chain(rest.iter().copied()).collect::<Vec<u8>>()
    };
    vec![
        numbers(1, &[7, 3, 9, 1 << 20], b"\x02\x05\x14log"),
        numbers(1, &[7, 3, 9, 0], b"\x00\x00\x14"),
        numbers(2, &[7, 3, 9], b""),
        numbers(3, &[7], b"a line\n"),
    ]
}

/// A packet that is read comes back from its own bytes.
pub(super) fn check_packet(bytes: &[u8]) {
    for (kind, written) in collector_packet(bytes).into_iter().enumerate() {
        if let Some(written) = written {
            assert_eq!(collector_packet(&written)[kind].as_ref(), Some(&written));
        }
    }
}
