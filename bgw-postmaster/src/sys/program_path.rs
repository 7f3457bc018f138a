//! Where a program is looked for, by the rules of `execvp`.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The search path when the environment has none.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// The paths to try, in this order, for a command with this `PATH`.
pub(crate) fn candidates(program: &str, path: Option<&OsStr>) -> io::Result<Vec<CString>> {
    if program.contains('/') {
        return Ok(vec![CString::new(program)?]);
    }
    let path = path.unwrap_or(OsStr::new(DEFAULT_PATH)).as_bytes();
    let in_folder = |folder: &[u8]| {
        CString::new(Path::new(OsStr::from_bytes(folder)).join(program).as_os_str().as_bytes())
    };
    Ok(path.split(|&byte| byte == b':').map(in_folder).collect::<Result<_, _>>()?)
}

/// What becomes of the search when a candidate cannot be executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Search {
    /// The next one is tried.
    Next,
    /// The same, but it exists: this is the better answer if none can be executed.
    NextButKnown,
    /// The search is over.
    Over,
}

/// What follows from the `errno` of one candidate.
pub(crate) const fn after(errno: i32) -> Search {
    match errno {
        libc::ENOENT | libc::ENOTDIR | libc::ESTALE | libc::ENODEV => Search::Next,
        libc::EACCES => Search::NextButKnown,
        _ => Search::Over,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Breaks if a path is searched for, an empty entry is not the current folder, or the default
    /// is lost.
    #[test]
    fn programs_are_searched_for_as_execvp_does() {
        let list = |program, path: Option<&str>| -> Vec<String> {
            let found = candidates(program, path.map(OsStr::new)).unwrap();
            found.iter().map(|path| path.to_string_lossy().into_owned()).collect()
        };
        assert_eq!(list("/bin/x", Some("/usr/bin")), ["/bin/x"]);
        assert_eq!(list("./x", Some("/usr/bin")), ["./x"]);
        assert_eq!(list("x", Some("/a:/b/")), ["/a/x", "/b/x"]);
        assert_eq!(list("x", Some("/a::b")), ["/a/x", "x", "b/x"]);
        assert_eq!(list("x", Some("")), ["x"]);
        assert_eq!(list("x", None), ["/bin/x", "/usr/bin/x"]);
    }
}
