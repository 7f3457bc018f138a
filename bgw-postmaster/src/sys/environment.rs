//! The environment of workers.

use super::fork::{SingleThreaded, ThreadCounter};
use bgw_core::Input;
use bgw_core::internals::Surroundings;
use std::env;
use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;

/// What speaks of this process to its own supervisor, a postmaster even, and of nobody else.
const OF_THIS_PROCESS: [&str; 9] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "BGW_ATTACH",
    "BGW_HANDLE",
    "BGW_RUNTIME_DIR",
];

/// The variables that speak of the postmaster alone. They are out of its environment, of which each
/// worker gets a copy, until this is dropped. No child drops it.
#[derive(Debug)]
pub(crate) struct HiddenVariables(Vec<(&'static str, OsString)>);

impl HiddenVariables {
    pub(crate) fn hide(_proof: &SingleThreaded) -> Self {
        let own = |name| Some((name, env::var_os(name)?));
        let hidden: Vec<_> = OF_THIS_PROCESS.into_iter().filter_map(own).collect();
        for (name, _) in &hidden {
            // SAFETY: the process has one thread (`SingleThreaded`), so nobody reads it meanwhile.
            unsafe { env::remove_var(name) };
        }
        Self(hidden)
    }
}

impl Drop for HiddenVariables {
    fn drop(&mut self) {
        // Other threads may read the environment. Without the proof it stays as it is.
        let is_alone = || {
            let proof = ThreadCounter::new().and_then(|threads| threads.prove());
            matches!(proof, Ok(Ok(_)))
        };
        if !self.0.is_empty() && !is_alone() {
            let names: Vec<&str> = self.0.iter().map(|&(name, _)| name).collect();
            let names = names.join(", ");
            return tracing::warn!("not set again, since there are other threads: {names}");
        }
        for (name, value) in self.0.drain(..) {
            // SAFETY: there is one thread, as above.
            unsafe { env::set_var(name, value) };
        }
    }
}

/// That of a command: the postmaster's own, as `surroundings` change it, with those of the run.
pub(crate) fn environment(
    surroundings: Option<&Surroundings>,
    own: &[(&'static str, String)],
) -> io::Result<Vec<CString>> {
    let variables = surroundings.map(|surroundings| &surroundings.variables);
    let is_own = |name: &OsStr| own.iter().any(|(of_own, _)| name == *of_own);
    let is_said = |name: &OsStr| {
        name.to_str().is_some_and(|name| variables.is_some_and(|said| said.contains_key(name)))
    };
    let inherits = !surroundings.is_some_and(|surroundings| surroundings.clear);
    let inherited = inherits.then(env::vars_os).into_iter().flatten();
    let inherited = inherited.filter(|(name, _)| !is_own(name) && !is_said(name));
    let inherited =
        inherited.map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat());
    let set = variables.into_iter().flatten();
    let set = set.filter_map(|(name, value)| Some((name, value.as_ref()?)));
    let set = set.map(|(name, value)| format!("{name}={value}").into_bytes());
    let own = own.iter().map(|(name, value)| format!("{name}={value}").into_bytes());
    Ok(inherited.chain(set).chain(own).map(CString::new).collect::<Result<_, _>>()?)
}

/// Where a command without a path is looked for: in the `PATH` that it has.
pub(crate) fn search_path(surroundings: Option<&Surroundings>) -> Option<OsString> {
    let inherited = || env::var_os("PATH");
    let Some(Surroundings { clear, variables, .. }) = surroundings else { return inherited() };
    match variables.get("PATH") {
        Some(value) => value.as_ref().map(OsString::from),
        None => inherited().filter(|_| !clear),
    }
}

/// The working folder of a command, if it is another one than the postmaster's.
pub(crate) fn folder_of(surroundings: Option<&Surroundings>) -> io::Result<Option<CString>> {
    let folder = surroundings.and_then(|surroundings| surroundings.folder.as_deref());
    Ok(folder.map(CString::new).transpose()?)
}

/// What a command reads as its standard input, if it is something else than what the postmaster
/// would.
pub(crate) fn input_of(surroundings: Option<&Surroundings>) -> io::Result<Option<CString>> {
    let path = match surroundings.map(|surroundings| &surroundings.input) {
        Some(Input::File(path)) => path.as_str(),
        Some(Input::Null) => "/dev/null",
        _ => return Ok(None),
    };
    Ok(Some(CString::new(path)?))
}
