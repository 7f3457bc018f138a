//! Programs that mean harm, or are clumsy: they attach as everybody does, and then write into the
//! region what they like, speak nonsense on the socket, and connect in floods.
//!
//! What such a program can spoil is what other backends read. It can neither end nor stop the
//! postmaster, nor have it signal a stranger.

use crate::job::pick;
use crate::sys;
use bgw_backend::Backend;
use process_test::{Child, fork_child};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

#[derive(Clone, Copy)]
enum Way {
    /// Random cells get random values.
    Scribble,
    /// Cells that are not zero lose or gain one bit.
    Flip,
    /// A line is copied over another one.
    Copy,
    /// Cells get the number of a process that has nothing to do with the cluster.
    Pids,
    /// Packets of random bytes.
    Nonsense,
    /// Connections that say nothing.
    Flood,
}

const WAYS: [(u32, Way); 6] = [
    (3, Way::Scribble),
    (4, Way::Flip),
    (2, Way::Copy),
    (3, Way::Pids),
    (2, Way::Nonsense),
    (1, Way::Flood),
];

/// A process that attacks for some milliseconds. The caller has one thread.
pub(crate) fn attack(folder: &Path, seed: u64, stranger: u32) -> Child {
    let folder = folder.to_owned();
    fork_child(move || {
        let mut random = StdRng::seed_from_u64(seed);
        let until = Instant::now() + Duration::from_millis(random.random_range(1..30));
        let way = pick(&mut random, &WAYS);
        match way {
            Way::Nonsense => speak(&folder, &mut random, until),
            Way::Flood => flood(&folder, &mut random),
            _ => {
                // Refused when the region is in no state to attach to any more.
                let Ok(backend) = Backend::connect(&folder) else { return };
                let Some(cells) = sys::region_cells() else { return };
                write(way, cells, &mut random, until, stranger);
                drop(backend);
            }
        }
    })
}

fn write(way: Way, cells: &[AtomicU64], random: &mut StdRng, until: Instant, stranger: u32) {
    // The pages behind the last slot in use are left alone: each would be memory for good.
    let used = cells.len().min(1 << 16);
    while Instant::now() < until {
        for _ in 0..64 {
            let place = random.random_range(0..used);
            let cell = &cells[place];
            match way {
                Way::Scribble => cell.store(random.random(), Ordering::Relaxed),
                Way::Flip if cell.load(Ordering::Relaxed) != 0 => {
                    cell.fetch_xor(1 << random.random_range(0..64), Ordering::Relaxed);
                }
                Way::Copy => {
                    let from = random.random_range(0..used) & !7;
                    for at in 0..8.min(used - from).min(used - (place & !7)) {
                        let value = cells[from + at].load(Ordering::Relaxed);
                        cells[(place & !7) + at].store(value, Ordering::Relaxed);
                    }
                }
                Way::Pids if cell.load(Ordering::Relaxed) != 0 => {
                    let low = cell.load(Ordering::Relaxed) & !0x3f_ffff;
                    cell.store(low | u64::from(stranger), Ordering::Relaxed);
                }
                _ => {}
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn speak(folder: &Path, random: &mut StdRng, until: Instant) {
    while Instant::now() < until {
        let Ok(socket) = sys::connect(&folder.join(bgw_postmaster::CONTROL_SOCKET)) else { return };
        for _ in 0..random.random_range(1..20) {
            let mut packet = vec![0_u8; random.random_range(0..600)];
            random.fill(&mut packet[..]);
            if let Some(first) = packet.first_mut() {
                *first &= 0x0f;
            }
            let flags = nix::sys::socket::MsgFlags::MSG_NOSIGNAL;
            if nix::sys::socket::send(socket, &packet, flags).is_err() {
                break;
            }
        }
        let _ = nix::unistd::close(socket);
    }
}

fn flood(folder: &Path, random: &mut StdRng) {
    let path = folder.join(bgw_postmaster::CONTROL_SOCKET);
    let count = random.random_range(1..200);
    let all: Vec<_> = (0..count).map_while(|_| sys::connect(&path).ok()).collect();
    std::thread::sleep(Duration::from_millis(random.random_range(0..50)));
    for socket in all {
        let _ = nix::unistd::close(socket);
    }
}
