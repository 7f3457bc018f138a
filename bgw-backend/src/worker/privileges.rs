//! Dropping a worker's privileges.
//!
//! The order matters: the supplementary groups and the group need the privilege that the change of
//! the user gives up. That change also makes the kernel disarm the parent-death signal, so the
//! signal is armed again, and only then is the postmaster looked at: had it died in between, no
//! signal would ever come.

use super::{PrivilegeError, Worker};
use bgw_core::internals::EntryKinds;
use nix::sys::prctl;
use nix::unistd::{Gid, Group, Uid, User, getppid, setgroups, setresgid, setresuid};

fn failed(call: &'static str) -> impl FnOnce(nix::Error) -> PrivilegeError {
    move |errno| PrivilegeError::System { call, source: errno.into() }
}

fn user_id(name: &str) -> Result<Uid, PrivilegeError> {
    if let Ok(number) = name.parse() {
        return Ok(Uid::from_raw(number));
    }
    let user = User::from_name(name).map_err(failed("getpwnam_r"))?;
    user.map(|user| user.uid).ok_or_else(|| PrivilegeError::NoUser { name: name.to_owned() })
}

fn group_id(name: &str) -> Result<Gid, PrivilegeError> {
    if let Ok(number) = name.parse() {
        return Ok(Gid::from_raw(number));
    }
    let group = Group::from_name(name).map_err(failed("getgrnam_r"))?;
    group.map(|group| group.gid).ok_or_else(|| PrivilegeError::NoGroup { name: name.to_owned() })
}

impl Worker {
    /// Makes this worker run as `user` and `group`, each a name or a number, for good: real,
    /// effective and saved ids. It has no supplementary groups afterwards, and no program that it
    /// runs gains privileges (`PR_SET_NO_NEW_PRIVS`). It still ends with its postmaster.
    ///
    /// It stays attached: it registers, waits and terminates as before. What goes over the control
    /// socket (killing, segments, giving descriptors, values of calls that do not fit into a
    /// report) works only if the worker has asked for something there before, since the postmaster
    /// lets in nobody of another user: call `worker.backend().ping()` first.
    ///
    /// A worker that could register a command or a library would have its privileges back, so a
    /// postmaster that allows those keeps its workers from dropping theirs.
    ///
    /// Call this instead of `setuid`, which makes the kernel forget to signal the worker when the
    /// postmaster dies.
    ///
    /// # Errors
    /// [`PrivilegeError`]. Return it from the worker's main: after an error the worker may have
    /// dropped a part of its privileges.
    pub fn drop_privileges(&self, user: &str, group: &str) -> Result<(), PrivilegeError> {
        if self.me.attachment.cells().registrable().intersects(EntryKinds::FOREIGN_CODE) {
            return Err(PrivilegeError::CommandsAllowed);
        }
        let (user, group) = (user_id(user)?, group_id(group)?);
        setgroups(&[group]).map_err(failed("setgroups"))?;
        setresgid(group, group, group).map_err(failed("setresgid"))?;
        setresuid(user, user, user).map_err(failed("setresuid"))?;
        prctl::set_no_new_privs().map_err(failed("prctl(PR_SET_NO_NEW_PRIVS)"))?;
        let death = bgw_core::internals::signals::POSTMASTER_DEATH;
        prctl::set_pdeathsig(death).map_err(failed("prctl(PR_SET_PDEATHSIG)"))?;
        let postmaster = self.me.attachment.postmaster();
        if getppid().as_raw() != postmaster.as_raw() {
            return Err(PrivilegeError::PostmasterDied { pid: postmaster });
        }
        Ok(())
    }
}
