//! The clocks, asked for through the C library: rustix looks for the kernel's vDSO by itself, and dies where a tool
//! (valgrind) hides it.
#![allow(unsafe_code)] // calls the C library

fn read(clock: libc::clockid_t) -> (u64, u64) {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes to the place it is given; Linux has had these clocks since 2.6.39.
    unsafe { libc::clock_gettime(clock, &raw mut now) };
    (now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs())
}

/// How many clock ticks a second has, where `/proc` counts in them.
pub(crate) fn ticks_per_second() -> u64 {
    // SAFETY: no memory is involved.
    unsafe { libc::sysconf(libc::_SC_CLK_TCK) }.unsigned_abs().max(1)
}

/// The time since the machine was started, in clock ticks, rounded up.
pub(crate) fn ticks_since_boot() -> u64 {
    let per_second = ticks_per_second();
    let (seconds, nanoseconds) = read(libc::CLOCK_BOOTTIME);
    seconds * per_second + nanoseconds * per_second / 1_000_000_000 + 1
}

/// `clock_gettime(CLOCK_MONOTONIC)`, in nanoseconds: the clock of wait notes, the same for all processes.
pub(crate) fn monotonic_nanoseconds() -> u64 {
    let (seconds, nanoseconds) = read(libc::CLOCK_MONOTONIC);
    seconds * 1_000_000_000 + nanoseconds
}
