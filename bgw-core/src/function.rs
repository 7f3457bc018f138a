//! The functions of a postmaster, as others know them: by name, and by the types of their calls.

use std::fmt;

/// A signature is for people. Longer ones are cut.
const SIGNATURE_LIMIT: usize = 240;

/// Separates the parts of a line. No name has it.
const SEPARATOR: char = '\u{1}';
/// Begins the line of a reusable function. No name has it.
const REUSABLE: char = '\u{2}';

/// What a function is called with and what it gives back.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CallType {
    /// Stands for the format of the values and the schema of both types. Two calls that differ in
    /// any of these have different tags.
    pub tag: u64,
    /// For people.
    pub signature: String,
}

impl fmt::Display for CallType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.signature)
    }
}

/// A function that workers may run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// Its type; `None` for one that is not a call.
    pub call: Option<CallType>,
    /// Its process may serve another worker afterwards.
    pub reusable: bool,
}

impl Function {
    /// As one text, for the control socket.
    #[must_use]
    pub fn line(&self) -> String {
        let mark = if self.reusable { REUSABLE.to_string() } else { String::new() };
        let Some(CallType { tag, signature }) = &self.call else { return mark + &self.name };
        let end = (0..=signature.len().min(SIGNATURE_LIMIT)).rev();
        let end = { end }.find(|&at| signature.is_char_boundary(at)).unwrap_or(0);
        let signature = signature.get(..end).unwrap_or_default();
        format!("{mark}{}{SEPARATOR}{tag:016x}{SEPARATOR}{signature}", self.name)
    }

    /// From such a text. One that is none is a name.
    #[must_use]
    pub fn from_line(line: &str) -> Self {
        let rest = line.strip_prefix(REUSABLE);
        let mut parts = rest.unwrap_or(line).splitn(3, SEPARATOR);
        let name = parts.next().unwrap_or_default().to_owned();
        let tag = parts.next().and_then(|tag| u64::from_str_radix(tag, 16).ok());
        let call = tag.zip(parts.next()).map(|(tag, signature)| CallType {
            tag,
            signature: signature.chars().filter(|c| !c.is_control()).collect(),
        });
        Self { name, call, reusable: rest.is_some() }
    }

    /// All of them, sorted by name.
    #[must_use]
    pub fn from_lines(lines: &[String]) -> Vec<Self> {
        let mut all: Vec<Self> = lines.iter().map(|line| Self::from_line(line)).collect();
        all.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_comes_back_from_its_line_and_any_line_is_one() {
        let call = |signature: &str| Some(CallType { tag: 7, signature: signature.to_owned() });
        for call in [None, call(""), call("fn(u32) -> Vec<ä>")] {
            for reusable in [false, true] {
                let function = Function { name: "resize".to_owned(), call: call.clone(), reusable };
                assert_eq!(Function::from_line(&function.line()), function);
            }
        }
        let long = call(&"ä".repeat(500));
        let long = Function { name: "a".to_owned(), call: long, reusable: true };
        let call = Function::from_line(&long.line()).call.unwrap();
        assert_eq!((call.tag, call.signature), (7, "ä".repeat(SIGNATURE_LIMIT / 2)));
        for line in ["", "\u{1}", "a\u{1}", "a\u{1}x\u{1}y", "a\u{1}7", "a\u{1}-1\u{1}"] {
            let name = line.split('\u{1}').next().unwrap().to_owned();
            assert_eq!(
                Function::from_line(line),
                Function { name, call: None, reusable: false },
                "{line:?}"
            );
        }
        let lines = ["b\u{1}7\u{1}", "a b", "a"].map(str::to_owned);
        let names: Vec<_> = Function::from_lines(&lines).into_iter().map(|f| f.name).collect();
        assert_eq!(names, ["a", "a b", "b"]);
    }
}
