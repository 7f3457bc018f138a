//! Rules that parts of the workspace do not keep yet. `tidy` counts what it finds there and does
//! not fail; `tidy --all` prints it. An entry goes as soon as nothing is found.

use super::Finding;

/// A rule, and where it is not kept yet: the beginning of a path, empty for all.
const PENDING: &[(&str, &str)] = &[
    ("comment-width", ""),
    ("import-cycle", "xtask/slot-model/"),
    ("sys-names-above", "bgw-backend/"),
    ("sys-names-above", "bgw-postmaster/"),
];

pub(super) fn is_pending(finding: &Finding) -> bool {
    PENDING.iter().any(|(rule, path)| finding.rule == *rule && finding.file.starts_with(path))
}

/// The entries that no finding needs.
pub(super) fn needless(findings: &[Finding]) -> Vec<String> {
    PENDING
        .iter()
        .filter(|(rule, path)| {
            !findings.iter().any(|f| f.rule == *rule && f.file.starts_with(path))
        })
        .map(|(rule, path)| format!("{rule} in {path}"))
        .collect()
}
