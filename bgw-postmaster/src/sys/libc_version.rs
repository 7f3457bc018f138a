//! The C library that this process runs with.
//!
//! glibc before 2.25 remembers the pid of a process. A child that was not made by its `fork` then
//! has the pid of its parent, and signals and slots meant for itself go to the postmaster.

/// A C library that a postmaster cannot run with.
#[derive(Clone, thiserror::Error, PartialEq, Eq)]
#[error(
    "glibc {found} gives forked processes the pid of their parent; run with glibc {needed} or newer"
)]
pub struct UnsupportedLibc {
    found: String,
    needed: &'static str,
}

bgw_core::debug_as_chain!(UnsupportedLibc);

/// Fails with a C library that remembers pids.
pub(crate) fn check_libc() -> Result<(), UnsupportedLibc> {
    glibc_version().map_or(Ok(()), |version| check(&version))
}

/// `None` for another C library than glibc.
#[cfg(target_env = "gnu")]
fn glibc_version() -> Option<String> {
    // SAFETY: the function takes nothing.
    let version = unsafe { libc::gnu_get_libc_version() };
    // SAFETY: it returns a text that lives as long as the process.
    let version = unsafe { std::ffi::CStr::from_ptr(version) };
    Some(version.to_string_lossy().into_owned())
}

#[cfg(not(target_env = "gnu"))]
const fn glibc_version() -> Option<String> {
    None
}

/// A version that cannot be read is taken for a new one.
fn check(version: &str) -> Result<(), UnsupportedLibc> {
    let mut numbers = version.split('.').map_while(|part| part.parse::<u32>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) if (major, minor) < (2, 25) => {
            Err(UnsupportedLibc { found: version.to_owned(), needed: "2.25" })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_glibc_that_remembers_pids_is_refused_by_its_version() {
        for new in ["2.25", "2.36", "3.0", "2.100", "unknown", ""] {
            assert_eq!(check(new), Ok(()), "{new}");
        }
        for old in ["2.24", "2.17", "1.99", "2.24.90"] {
            let error = check(old).unwrap_err().to_string();
            assert!(error.contains(old) && error.contains("2.25"), "{error}");
        }
        assert_eq!(check_libc(), Ok(()), "the tests run with a new one");
    }
}
