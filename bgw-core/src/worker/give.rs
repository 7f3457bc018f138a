//! What a description gives its worker besides values: descriptors.

use super::builder::BackgroundWorkerBuilder;
use super::gift::Gift;
use std::os::fd::OwnedFd;
use std::sync::Arc;

impl BackgroundWorkerBuilder {
    /// Gives the worker a descriptor, which it takes by this name, at most 31 bytes without a
    /// colon: a connection, a listener, a file, a pipe. At most 16 for a worker; two of one name
    /// are refused.
    ///
    /// It travels to the postmaster when the worker is registered, and from then on the caller's
    /// own may be closed. The postmaster keeps it until a run of the worker has taken it, or the
    /// registration is over: a run that ends before it takes a descriptor leaves it to the next
    /// one, and what was taken is gone for the next one. A registration is refused whole if one of
    /// its descriptors did not arrive. Such a worker is forked, even if there are spares.
    ///
    /// A function calls `Worker::take`. A command has them from its start, from number 3 on in the
    /// order in which they are given, and announced as by systemd, by `LISTEN_FDS`,
    /// `LISTEN_FDNAMES` and `LISTEN_PID`. It cannot say that it has taken one: a command that may
    /// be restarted has all of them in each of its runs, and any other command has the only ones.
    ///
    /// ```
    /// use bgw_core::BackgroundWorker;
    /// use std::os::unix::net::UnixStream;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (ours, theirs) = UnixStream::pair()?;
    /// let worker = BackgroundWorker::builder("session").function("serve").give("conn", theirs);
    /// let worker = worker.build()?;
    /// assert!(worker.given().eq(["conn"]));
    /// # drop(ours);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "SCM_RIGHTS")]
    #[doc(alias = "LISTEN_FDS")]
    pub fn give(self, name: impl Into<String>, descriptor: impl Into<OwnedFd>) -> Self {
        self.with_gift(name.into(), None, descriptor.into())
    }

    /// Like [`give`](Self::give), for a command that is to have the descriptor at this number: 0 to
    /// 63. It replaces what the program left open there. `LISTEN_FDS` counts those at 3 and the
    /// numbers that follow without a gap; what lies behind a gap is there, but is not announced.
    /// Refused for functions.
    ///
    /// At 0 it is the standard input of the command, at 1 its standard output, at 2 its standard
    /// error, whatever else it may be: a pipe, a file, a terminal. Refused together with a
    /// [`stdin`](Self::stdin) or [`output`](Self::output) for the same stream. Whoever reads from
    /// the other end of a pipe sees its end once all who have it have ended; for a command that may
    /// be restarted that is the end of its registration. The lines do not go through the output
    /// collector: nobody remembers the last ones, and the command waits while nobody reads. To have
    /// them go through it, name the descriptor in [`OutputDescriptor`](crate::OutputDescriptor).
    ///
    /// ```
    /// use bgw_core::BackgroundWorker;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (reader, writer) = std::io::pipe()?;
    /// let sort = BackgroundWorker::builder("sort")
    ///     .command("sort", ["-n"])
    ///     .give_at(0, "numbers", std::fs::File::open("/dev/null")?)
    ///     .give_at(1, "sorted", writer)
    ///     .build()?;
    /// assert!(sort.given().eq(["numbers", "sorted"]));
    /// # drop(reader);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "posix_spawn_file_actions_adddup2")]
    pub fn give_at(
        self,
        number: u8,
        name: impl Into<String>,
        descriptor: impl Into<OwnedFd>,
    ) -> Self {
        self.with_gift(name.into(), Some(number), descriptor.into())
    }

    fn with_gift(mut self, name: String, number: Option<u8>, descriptor: OwnedFd) -> Self {
        let descriptor = Some(Arc::new(descriptor));
        self.draft.gifts.push(Gift { name, number, descriptor });
        self
    }
}
