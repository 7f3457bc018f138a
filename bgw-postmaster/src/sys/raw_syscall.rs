//! System calls without the C library, so without `errno`: a child that runs in the postmaster's
//! memory shares that with it.
//!
//! For the processors named below. Elsewhere [`AVAILABLE`] is false and nothing here is called.

use std::io;

/// Whether [`call`] can be used.
pub(crate) const AVAILABLE: bool =
    cfg!(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")));

/// One system call, with up to four arguments.
///
/// # Safety
/// As for the system call: pointers among the arguments are valid for what it does with them.
pub(crate) unsafe fn call(number: libc::c_long, args: [usize; 4]) -> io::Result<usize> {
    // SAFETY: passed on to the caller.
    let result = unsafe { trap(number, args) };
    // The kernel's errors are the numbers from -4095 to -1.
    match i32::try_from(result) {
        Ok(negative @ -4095..=-1) => Err(io::Error::from_raw_os_error(-negative)),
        _ => Ok(result as usize),
    }
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
unsafe fn trap(number: libc::c_long, [a, b, c, d]: [usize; 4]) -> isize {
    let result: isize;
    // SAFETY: the kernel's calling convention: it changes rax, rcx and r11, and memory as the call
    // says.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d,
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    result
}

#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
unsafe fn trap(number: libc::c_long, [a, b, c, d]: [usize; 4]) -> isize {
    let result: isize;
    // SAFETY: the kernel's calling convention: it changes x0, and memory as the call says.
    unsafe {
        std::arch::asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") a => result,
            in("x1") b, in("x2") c, in("x3") d,
            options(nostack),
        );
    }
    result
}

#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
unsafe fn trap(_number: libc::c_long, _args: [usize; 4]) -> isize {
    -(libc::ENOSYS as isize)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Breaks if a register is wrong, or an error is taken for a value.
    #[test]
    fn a_raw_call_returns_what_the_c_library_returns_and_leaves_errno_alone() {
        nix::errno::Errno::set_raw(77);
        // SAFETY: the call takes no pointers.
        let pid = unsafe { call(libc::SYS_getpid, [0; 4]) };
        assert_eq!(pid.unwrap(), std::process::id() as usize);
        let mut pair = [0i32; 2];
        // SAFETY: the kernel writes two descriptors to `pair`.
        unsafe { call(libc::SYS_pipe2, [pair.as_mut_ptr() as usize, usize::MAX, 0, 0]) }
            .unwrap_err();
        // SAFETY: the call takes no pointers.
        let error = unsafe { call(libc::SYS_dup3, [0, 0, 0, 0]) }.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
        assert_eq!(nix::errno::Errno::last_raw(), 77);
    }
}
