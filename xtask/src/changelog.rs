//! A crate's CHANGELOG: its newest section names the version that comes next, until a date replaces
//! the word `unreleased`.

use cargo_metadata::semver::Version;

/// One `## VERSION (DATE)` with what follows it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Section {
    pub(crate) version: Version,
    /// `None` while it says `unreleased`.
    pub(crate) date: Option<String>,
    /// Has an entry under `### Breaking`.
    pub(crate) breaking: bool,
    /// Has any text.
    pub(crate) written: bool,
}

/// The sections, newest first. An error names the line and what belongs there.
pub(crate) fn sections(text: &str) -> Result<Vec<Section>, String> {
    let mut sections: Vec<Section> = Vec::new();
    let mut heading = "";
    for (index, line) in text.lines().enumerate() {
        if let Some(title) = line.strip_prefix("## ") {
            heading = "";
            let section = section(title).ok_or_else(|| {
                format!(
                    "line {}: `{title}` is no `VERSION (unreleased)` or `VERSION (YYYY-MM-DD)`",
                    index + 1
                )
            })?;
            sections.push(section);
        } else if let Some(title) = line.strip_prefix("### ") {
            heading = title;
        } else if let Some(section) = sections.last_mut()
            && !line.trim().is_empty()
        {
            section.written = true;
            section.breaking |= heading.starts_with("Breaking");
        }
    }
    for pair in sections.windows(2) {
        if pair[0].version <= pair[1].version {
            return Err(format!(
                "{} stands above {}; the newest is first",
                pair[0].version, pair[1].version
            ));
        }
        if pair[1].date.is_none() {
            return Err(format!(
                "{} is unreleased and stands below {}",
                pair[1].version, pair[0].version
            ));
        }
    }
    Ok(sections)
}

fn section(title: &str) -> Option<Section> {
    let (version, state) = title.trim_end().strip_suffix(')')?.split_once(" (")?;
    let is_date = state.len() == 10
        && state.bytes().enumerate().all(|(at, byte)| match at {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        });
    let date = match state {
        "unreleased" => None,
        _ if is_date => Some(state.to_owned()),
        _ => return None,
    };
    Some(Section { version: version.parse().ok()?, date, breaking: false, written: false })
}

/// The text with the newest section dated.
pub(crate) fn dated(text: &str, date: &str) -> String {
    text.replacen("(unreleased)", &format!("({date})"), 1)
}

/// Is `next` a version that may break what `before` promised?
pub(crate) fn may_break(before: &Version, next: &Version) -> bool {
    match (before.major, next.major) {
        (0, 0) => before.minor != next.minor,
        (before, next) => before != next,
    }
}

#[cfg(test)]
mod tests {
    use super::{dated, may_break, sections};

    const TEXT: &str = "# Changelog of x\n\n## 0.2.0 (unreleased)\nAbout.\n\n### Breaking\n- a\n\n## 0.1.0 (2026-01-31)\nFirst.\n";

    #[test]
    fn sections_are_read_with_their_state() {
        let read = sections(TEXT).unwrap();
        let short: Vec<_> =
            read.iter().map(|s| (s.version.to_string(), s.date.as_deref(), s.breaking)).collect();
        assert_eq!(
            short,
            [("0.2.0".to_owned(), None, true), ("0.1.0".to_owned(), Some("2026-01-31"), false)]
        );
        assert!(read.iter().all(|section| section.written));
        assert!(!sections("## 1.0.0 (unreleased)\n\n").unwrap()[0].written);
        assert_eq!(sections("# Nothing\n").unwrap(), []);
    }

    #[test]
    fn headings_that_cannot_be_read_are_errors() {
        for bad in ["## 1.0 (unreleased)", "## 1.0.0", "## 1.0.0 (soon)", "## 1.0.0 (2026-1-31)"] {
            assert!(sections(bad).is_err(), "{bad}");
        }
        let swapped = "## 0.1.0 (unreleased)\n## 0.2.0 (2026-01-31)";
        assert!(sections(swapped).unwrap_err().contains("newest is first"));
        let twice = "## 0.2.0 (unreleased)\n## 0.1.0 (unreleased)";
        assert!(sections(twice).unwrap_err().contains("is unreleased"));
    }

    #[test]
    fn only_the_newest_section_gets_the_date() {
        let text = dated(TEXT, "2026-12-01");
        assert_eq!(sections(&text).unwrap()[0].date.as_deref(), Some("2026-12-01"));
        assert!(text.contains("0.1.0 (2026-01-31)"));
    }

    #[test]
    fn below_one_the_minor_number_breaks() {
        let break_of = |a: &str, b: &str| may_break(&a.parse().unwrap(), &b.parse().unwrap());
        assert!(
            break_of("0.1.0", "0.2.0") && break_of("0.9.0", "1.0.0") && break_of("1.0.0", "2.0.0")
        );
        assert!(!break_of("0.1.0", "0.1.1") && !break_of("1.0.0", "1.1.0"));
    }
}
