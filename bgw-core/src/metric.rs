//! A counter or gauge that workers keep: its name, what it says, and what both may be. Pure.

use std::fmt;

/// How many metrics there can be.
pub(crate) const MOST_METRICS: u32 = 64;
/// The longest name, in bytes.
pub(crate) const NAME_LIMIT: usize = 63;
/// The longest help text, in bytes.
pub(crate) const HELP_LIMIT: usize = 127;

/// Whether a metric only rises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MetricKind {
    /// It rises and never falls: jobs that were done, say.
    Counter,
    /// It rises and falls: files that are open, say.
    Gauge,
}

impl fmt::Display for MetricKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
        })
    }
}

/// A metric that the workers of a cluster keep, as it was declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metric {
    pub(crate) name: String,
    pub(crate) help: String,
    pub(crate) kind: MetricKind,
}

impl Metric {
    /// A metric of this name; whether the name is a valid one is checked with all others.
    #[must_use]
    pub fn new(name: impl Into<String>, help: impl Into<String>, kind: MetricKind) -> Self {
        Self { name: name.into(), help: help.into(), kind }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it says, in a few words.
    #[must_use]
    pub fn help(&self) -> &str {
        &self.help
    }

    /// Whether it only rises.
    #[must_use]
    pub const fn kind(&self) -> MetricKind {
        self.kind
    }

    /// What is wrong with it, if anything.
    pub(crate) fn objection(&self) -> Option<String> {
        let mut bytes = self.name.bytes();
        let is_first = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_' || byte == b':';
        let begins_well = bytes.next().is_some_and(is_first);
        if self.name.is_empty() || self.name.len() > NAME_LIMIT {
            Some(format!("a name has 1 to {NAME_LIMIT} bytes"))
        } else if !begins_well || !bytes.all(|byte| is_first(byte) || byte.is_ascii_digit()) {
            Some("a name is letters, digits, '_' and ':', and begins with no digit".to_owned())
        } else if self.name.starts_with("__") {
            Some("names that begin with two underscores are Prometheus' own".to_owned())
        } else if self.kind == MetricKind::Counter && self.name.ends_with("_total") {
            Some("leave _total away: the text for Prometheus adds it to counters".to_owned())
        } else if self.help.len() > HELP_LIMIT {
            Some(format!("its help text is longer than {HELP_LIMIT} bytes"))
        } else if self.help.chars().any(char::is_control) {
            Some("its help text holds a control character".to_owned())
        } else {
            None
        }
    }
}

/// Why these metrics cannot be declared, if so: which one, escaped, and what is wrong.
#[must_use]
pub fn objection(metrics: &[Metric]) -> Option<(String, String)> {
    for (at, metric) in metrics.iter().enumerate() {
        let reason = metric.objection().or_else(|| {
            if at >= MOST_METRICS as usize {
                Some(format!("the limit is {MOST_METRICS} metrics"))
            } else if metrics.iter().take(at).any(|other| other.name == metric.name) {
                Some("there are two of this name".to_owned())
            } else {
                None
            }
        });
        if let Some(reason) = reason {
            return Some((metric.name.escape_debug().to_string(), reason));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_declared_is_named() {
        let counter = |name: &str, help: &str| Metric::new(name, help, MetricKind::Counter);
        let said = |metrics: &[Metric]| {
            objection(metrics).map(|(name, reason)| format!("{name}: {reason}"))
        };
        let longest = "n".repeat(NAME_LIMIT);
        for name in ["a", "_a", ":", "jobs_done", "a:b9", longest.as_str()] {
            assert_eq!(said(&[counter(name, "Jobs — done")]), None);
        }
        let too_long = "n".repeat(NAME_LIMIT + 1);
        for (name, help, part) in [
            ("", "", "1 to 63 bytes"),
            (too_long.as_str(), "", "1 to 63 bytes"),
            ("9a", "", "begins with no digit"),
            ("a-b", "", "letters, digits"),
            ("ä", "", "letters, digits"),
            ("__a", "", "Prometheus' own"),
            ("a_total", "", "leave _total away"),
            ("a", "two\nlines", "control character"),
            ("a", &"h".repeat(HELP_LIMIT + 1), "longer than 127 bytes"),
        ] {
            let said = said(&[counter(name, help)]);
            assert!(said.as_ref().is_some_and(|said| said.contains(part)), "{name:?}: {said:?}");
        }
        assert_eq!(said(&[Metric::new("a_total", "", MetricKind::Gauge)]), None);
        let twice = said(&[counter("a", ""), Metric::new("a", "", MetricKind::Gauge)]);
        assert!(twice.is_some_and(|said| said.contains("two of this name")));
        let many: Vec<Metric> = (0..65).map(|n| counter(&format!("n{n}"), "")).collect();
        assert_eq!(said(&many[..64]), None);
        assert!(said(&many).is_some_and(|said| said.contains("n64: the limit is 64 metrics")));
    }
}
