//! Process titles: what `ps` and `/proc/PID/cmdline` show.
//!
//! The kernel reads a process's command line from an address range of its memory. [`Title::new`]
//! points that range at a buffer of our own, once, in the postmaster; a forked child then only writes
//! to its copy. Where the kernel does not allow that (no `PR_SET_MM_MAP`), only the 15 bytes of the
//! thread name change.

use std::io;

/// The longest title, in bytes; longer ones are cut.
const ROOM: usize = 256;

/// The buffer of the title.
#[derive(Debug)]
pub(crate) struct Title {
    room: Option<&'static mut [u8]>,
}

#[repr(C)]
struct MmMap {
    start_code: u64,
    end_code: u64,
    start_data: u64,
    end_data: u64,
    start_brk: u64,
    brk: u64,
    start_stack: u64,
    arg_start: u64,
    arg_end: u64,
    env_start: u64,
    env_end: u64,
    auxv: u64,
    auxv_size: u32,
    exe_fd: u32,
}

impl Title {
    /// Prepares the buffer, with the command line as it is.
    pub(crate) fn new() -> Self {
        Self { room: move_command_line().ok() }
    }

    /// Shows the concatenated parts, also as the thread name (cut to 15 bytes). Allocates nothing.
    /// Failures are ignored: a worker runs as well without a title.
    pub(crate) fn show(&mut self, parts: &[&str]) {
        let text = || parts.iter().flat_map(|part| part.bytes()).filter(|&byte| byte != 0);
        // The last byte stays 0.
        let mut short = [0u8; 16];
        for (to, from) in short.iter_mut().take(15).zip(text()) {
            *to = from;
        }
        // SAFETY: the kernel reads up to the 0 at the end of the array. A direct call, because each
        // start makes it, and a page of another function that the child has not mapped yet costs more
        // than the call.
        let _ = unsafe { libc::prctl(libc::PR_SET_NAME, short.as_ptr()) };
        if let Some(room) = self.room.as_deref_mut() {
            let end = room.len().saturating_sub(1);
            room.fill(0);
            for (to, from) in room.iter_mut().take(end).zip(text()) {
                *to = from;
            }
        }
    }
}

fn move_command_line() -> io::Result<&'static mut [u8]> {
    let line = std::fs::read("/proc/self/cmdline")?;
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let odd = || io::Error::other("/proc/self/stat has an unexpected form");
    // The second field is the command in parentheses, which may hold anything.
    let rest = stat.rsplit_once(')').ok_or_else(odd)?.1;
    let fields: Vec<u64> =
        rest.split_ascii_whitespace().map(|field| field.parse().unwrap_or(0)).collect();
    // `rest` begins with field 3; see proc_pid_stat(5) for the numbers.
    let field = |number: usize| fields.get(number - 3).copied().ok_or_else(odd);
    let mut room = vec![0u8; line.len().max(ROOM) + 1];
    for (to, from) in room.iter_mut().zip(&line) {
        *to = *from;
    }
    let room = Vec::leak(room);
    let start = room.as_ptr().addr() as u64;
    // SAFETY: asks for the current break, changes nothing.
    let brk = unsafe { libc::sbrk(0) }.addr() as u64;
    let map = MmMap {
        start_code: field(26)?,
        end_code: field(27)?,
        start_data: field(45)?,
        end_data: field(46)?,
        start_brk: field(47)?,
        brk,
        start_stack: field(28)?,
        arg_start: start,
        arg_end: start + room.len() as u64,
        env_start: field(50)?,
        env_end: field(51)?,
        auxv: 0,
        auxv_size: 0,
        exe_fd: u32::MAX,
    };
    // SAFETY: every field but arg_start and arg_end is what the kernel reported of this process. Those
    // two name leaked memory, so it stays mapped. The kernel only reads it.
    let done = unsafe {
        libc::prctl(libc::PR_SET_MM, libc::PR_SET_MM_MAP, &raw const map, size_of::<MmMap>(), 0)
    };
    if done == 0 { Ok(room) } else { Err(io::Error::last_os_error()) }
}
