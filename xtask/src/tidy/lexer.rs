//! The code of a Rust file without its comments and literals, so that a rule on a word of the
//! language is not upset by a sentence. Just enough of a lexer for that.

/// The text with every byte of a comment, string or character literal made a space. Lines stay
/// where they are.
pub(crate) fn code_only(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = skip(bytes, at);
        if end > at {
            blank(&mut code, at, end);
            at = end;
        } else {
            at += 1;
        }
    }
    // Only ASCII was written, over whole literals, so this never replaces anything.
    String::from_utf8_lossy(&code).into_owned()
}

/// The end of the comment or literal that begins at `at`; `at` when none begins there.
fn skip(bytes: &[u8], at: usize) -> usize {
    let rest = bytes.get(at..).unwrap_or_default();
    let in_word = at > 0 && bytes.get(at - 1).is_some_and(|byte| is_word(*byte));
    match rest {
        [b'/', b'/', ..] => at + rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len()),
        [b'/', b'*', ..] => at + block_comment(rest),
        [b'"', ..] => at + string(rest),
        [b'\'', ..] => at + character(rest),
        [b'r', b'"' | b'#', ..] if !in_word => at + raw_string(rest, 1),
        [b'b' | b'c', b'r', b'"' | b'#', ..] if !in_word => at + raw_string(rest, 2),
        _ => at,
    }
}

fn block_comment(rest: &[u8]) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(pair) = rest.get(at..at + 2) {
        match pair {
            b"/*" => depth += 1,
            b"*/" => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

fn string(rest: &[u8]) -> usize {
    let mut at = 1;
    while let Some(byte) = rest.get(at) {
        match byte {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// A character literal, or nothing when the quote begins a lifetime.
fn character(rest: &[u8]) -> usize {
    match rest {
        [_, b'\\', ..] => {
            let close = rest.iter().skip(3).position(|byte| *byte == b'\'');
            close.map_or(rest.len(), |position| position + 4)
        }
        _ => {
            let text = rest.get(1..rest.len().min(6)).unwrap_or_default();
            let close = text.iter().position(|byte| *byte == b'\'');
            match close {
                // One character of up to four bytes.
                Some(length @ 1..=4)
                    if String::from_utf8_lossy(&text[..length]).chars().count() == 1 =>
                {
                    length + 2
                }
                _ => 0,
            }
        }
    }
}

fn raw_string(rest: &[u8], prefix: usize) -> usize {
    let hashes = rest.iter().skip(prefix).take_while(|byte| **byte == b'#').count();
    let open = prefix + hashes;
    if rest.get(open) != Some(&b'"') {
        // `r#word`
        return 0;
    }
    let mut close = vec![b'"'];
    close.resize(hashes + 1, b'#');
    let body = rest.get(open + 1..).unwrap_or_default();
    let length = body.windows(close.len()).position(|window| window == close);
    length.map_or(rest.len(), |length| open + 1 + length + close.len())
}

fn blank(code: &mut [u8], from: usize, to: usize) {
    for byte in code.iter_mut().take(to).skip(from) {
        if *byte != b'\n' {
            *byte = b' ';
        }
    }
}

fn is_word(byte: u8) -> bool {
    byte == b'_' || byte.is_ascii_alphanumeric() || !byte.is_ascii()
}

/// The lines, from 1, in which `word` stands as a word of its own, with what follows it.
pub(crate) fn lines_with<'a>(text: &'a str, word: &str) -> Vec<(usize, &'a str)> {
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for (at, _) in line.match_indices(word) {
            let (before, rest) = line.split_at(at);
            let after = rest.get(word.len()..).unwrap_or_default();
            let joined = before.bytes().last().is_some_and(is_word)
                || after.bytes().next().is_some_and(is_word);
            if !joined {
                found.push((index + 1, after));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{code_only, lines_with};

    fn squeezed(text: &str) -> String {
        code_only(text).split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn comments_and_literals_go_and_code_stays() {
        for (text, code) in [
            ("a // b\nc", "a c"),
            ("a /* b /* c */ d */ e", "a e"),
            ("a \"b \\\" c\" d", "a d"),
            ("a r#\"b \" c\"# d r\"e\" f", "a d f"),
            ("a b\"x\" br#\"y\"# c", "a b c"),
            ("a '\"' b '\\'' c '\\u{1F600}' d 'é' e", "a b c d e"),
            (
                "fn f<'a>(x: &'a str, y: &'static str) { 'l: loop {} }",
                "fn f<'a>(x: &'a str, y: &'static str) { 'l: loop {} }",
            ),
            ("r#unsafe bar", "r#unsafe bar"),
            ("a \"unclosed", "a"),
            ("a /* unclosed", "a"),
        ] {
            assert_eq!(squeezed(text), code, "{text}");
        }
    }

    #[test]
    fn lines_stay_where_they_are() {
        let text = "/* a\nb */ c\n\"d\ne\"\nf";
        assert_eq!(code_only(text).lines().count(), text.lines().count());
        assert_eq!(lines_with(&code_only(text), "f"), [(5, "")]);
    }

    #[test]
    fn a_word_inside_another_is_not_found() {
        let text = "unsafe_code\nnot_unsafe\nunsafe {";
        assert_eq!(lines_with(text, "unsafe"), [(3, " {")]);
    }
}
