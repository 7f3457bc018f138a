//! Process titles: what `ps` and `/proc/PID/cmdline` show.
//!
//! The kernel reads a process's command line from an address range of its memory. [`Title::new`]
//! points that range at a buffer of our own, once, in the postmaster; a forked child then only
//! writes to its copy. The buffer lies beside the C library's data of the thread, on a page that
//! each child writes to anyway. (A static would not do: the kernel shows no memory that a file
//! backs.) Where the kernel does not allow that (no `PR_SET_MM_MAP`), only the 15 bytes of the
//! thread name change.

use std::cell::Cell;
use std::io;

/// The longest title of a worker, in bytes; longer ones are cut.
const ROOM: usize = 256;
const WORD: usize = size_of::<u64>();

thread_local! {
    /// The last word stays 0. It lives as long as the thread, which is the process's only one while
    /// it is a postmaster.
    static LINE: [Cell<u64>; ROOM / WORD + 1] = const { [const { Cell::new(0) }; ROOM / WORD + 1] };
}

/// The title of this process.
#[derive(Debug)]
pub(crate) struct Title(Option<Room>);

/// The buffer that the kernel reads.
#[derive(Clone, Copy, Debug)]
enum Room {
    /// [`LINE`].
    Line,
    /// For a program with a long command line. Its last word stays 0, too.
    Long(&'static [Cell<u64>]),
}

impl Room {
    fn with<T>(self, work: impl FnOnce(&[Cell<u64>]) -> T) -> T {
        match self {
            Self::Line => LINE.with(|line| work(line)),
            Self::Long(words) => work(words),
        }
    }
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
        Self(move_command_line().ok())
    }

    /// Shows the concatenated parts, also as the thread name (cut to 15 bytes). Allocates nothing.
    /// Failures are ignored: a worker runs as well without a title.
    pub(crate) fn show(&self, parts: &[&str]) {
        self.write(parts.iter().map(|part| part.as_bytes()));
    }

    /// Shows the title of the worker `name`. Each worker does.
    pub(crate) fn show_worker(&self, name: &str) {
        // On the stack: where the program has its texts is a page that the child has not mapped.
        let of_worker = std::hint::black_box(*b"bgworker: ");
        self.write([&of_worker as &[u8], name.as_bytes()].into_iter());
    }

    fn write<'a>(&self, parts: impl Iterator<Item = &'a [u8]> + Clone) {
        // The last byte stays 0.
        let mut short = [0u8; 16];
        let mut places = short.iter_mut().take(15);
        for part in parts.clone() {
            part.iter().zip(&mut places).for_each(|(&from, to)| *to = from);
        }
        // SAFETY: the kernel reads up to the 0 at the end of the array. By number, because each
        // start makes the call: a page of code that the child has not mapped yet costs more.
        let _ = unsafe { libc::syscall(libc::SYS_prctl, libc::PR_SET_NAME, short.as_ptr()) };
        if let Some(room) = self.0 {
            room.with(|words| write(words, parts));
        }
    }
}

/// Puts `parts` into `room`, as much as fits before its last word.
fn write<'a>(room: &[Cell<u64>], parts: impl Iterator<Item = &'a [u8]>) {
    let mut words = room.iter().take(room.len().saturating_sub(1));
    let (mut word, mut filled) = (0, 0);
    for part in parts {
        for &byte in part {
            // As it lies in memory.
            word |= u64::from(byte) << (8 * filled);
            filled += 1;
            if filled == WORD {
                next(&mut words, word);
                (word, filled) = (0, 0);
            }
        }
    }
    next(&mut words, word);
    // The rest is mostly clear, and a call of `memset` would map another page of code.
    words.filter(|word| word.get() != 0).for_each(|word| word.set(0));
}

fn next<'a>(words: &mut impl Iterator<Item = &'a Cell<u64>>, word: u64) {
    if let Some(place) = words.next() {
        place.set(word.to_le());
    }
}

fn move_command_line() -> io::Result<Room> {
    let line = std::fs::read("/proc/self/cmdline")?;
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let odd = || io::Error::other("/proc/self/stat has an unexpected form");
    // The second field is the command in parentheses, which may hold anything.
    let rest = stat.rsplit_once(')').ok_or_else(odd)?.1;
    let fields: Vec<u64> =
        rest.split_ascii_whitespace().map(|field| field.parse().unwrap_or(0)).collect();
    // `rest` begins with field 3; see proc_pid_stat(5) for the numbers.
    let field = |number: usize| fields.get(number - 3).copied().ok_or_else(odd);
    let room = if line.len() <= ROOM {
        Room::Line
    } else {
        Room::Long(vec![Cell::new(0); line.len() / WORD + 2].leak())
    };
    let (start, len) = room.with(|words| {
        write(words, [&*line].into_iter());
        (words.as_ptr().addr() as u64, size_of_val(words) as u64)
    });
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
        arg_end: start + len,
        env_start: field(50)?,
        env_end: field(51)?,
        auxv: 0,
        auxv_size: 0,
        exe_fd: u32::MAX,
    };
    // SAFETY: every field but arg_start and arg_end is what the kernel reported of this process.
    // Those two name memory that stays mapped as long as this thread at least. The kernel only
    // reads it, and finds nothing where nothing is mapped.
    let done = unsafe {
        libc::prctl(libc::PR_SET_MM, libc::PR_SET_MM_MAP, &raw const map, size_of::<MmMap>(), 0)
    };
    if done == 0 { Ok(room) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Breaks if a title leaves something of a longer one, is not cut, or loses its last 0.
    #[test]
    fn a_title_fills_its_room_up_to_the_last_word() {
        let room = [const { Cell::new(u64::MAX) }; 4];
        room[3].set(0);
        let shown = |text: &str| {
            write(&room, [text.as_bytes()].into_iter());
            let bytes = room.iter().flat_map(|word| word.get().to_ne_bytes());
            String::from_utf8(bytes.collect()).unwrap().trim_end_matches('\0').to_owned()
        };
        for text in ["", "1234567", "12345678", "123456789", "0123456789abcdef01234567"] {
            assert_eq!(shown(text), text);
            assert_eq!(shown("a"), "a");
        }
        assert_eq!(shown(&"x".repeat(99)), "x".repeat(24));
    }
}
