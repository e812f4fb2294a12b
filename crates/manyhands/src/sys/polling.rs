//! `ppoll`, and what stands in for it where the limit of descriptors is below the number of those that are polled.
//!
//! The kernel refuses such a `ppoll` with `EINVAL`, even of descriptors that were open before somebody lowered the limit
//! (`prlimit` from outside, a program that lowers its own). `select` knows no limit but the table of open descriptors, waits
//! as well, and heeds signals as well. Everything that waits for descriptors does so here.
#![allow(unsafe_code)] // ppoll and select, by numbers that are borrowed for the call

use manyhands_sync::deadline::Deadline;
use manyhands_sync::park::{Waited, Waiting};
use rustix::event::{FdSetElement, FdSetIter, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::time::{Duration, Instant};

/// A descriptor that is polled.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct Watched<'fd>(libc::pollfd, PhantomData<BorrowedFd<'fd>>);

impl<'fd> Watched<'fd> {
    /// Until there is something of these flags; the end and errors always count.
    pub(crate) fn new(fd: BorrowedFd<'fd>, wanted: PollFlags) -> Self {
        // All flags of the kernel are in the lower half.
        let events = wanted.bits().cast_signed();
        Self(libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 }, PhantomData)
    }

    /// Until there is something to read, or the end.
    pub(crate) fn readable(fd: BorrowedFd<'fd>) -> Self {
        Self::new(fd, PollFlags::IN)
    }

    /// Whether the last [`poll`] has found what was wanted, an end, an error, or that it is no descriptor.
    pub(crate) fn is_ready(&self) -> bool {
        self.0.revents != 0
    }

    fn wants(&self, flags: PollFlags) -> bool {
        self.0.events & flags.bits().cast_signed() != 0
    }

    /// It wants to hear of the other side's end alone.
    fn wants_end(&self) -> bool {
        self.0.events == 0
    }

    fn found(&mut self, flags: PollFlags) {
        self.0.revents |= flags.bits().cast_signed();
    }

    fn borrowed(&self) -> BorrowedFd<'fd> {
        // SAFETY: borrowed for 'fd when this was made.
        unsafe { BorrowedFd::borrow_raw(self.0.fd) }
    }
}

const NO_TIME: Option<Duration> = Some(Duration::ZERO);
/// How long a wait goes on that has to look again by itself.
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// `ppoll`: how many are ready; none when the time is over. Without a time, waits until one is. A signal interrupts it.
pub(crate) fn poll(watched: &mut [Watched<'_>], longest: Option<Duration>) -> Result<usize, Errno> {
    match by_poll(watched, longest) {
        Err(Errno::INVAL) => by_select(watched, longest),
        other => other,
    }
}

/// Parks once on descriptors, as `park.rs` of manyhands-sync does on a word: until one is ready, the deadline passes, a
/// signal arrives or the sleep has come to its end. At least looks.
pub(crate) fn park(
    watched: &mut [Watched<'_>],
    waiting: &mut Waiting,
    deadline: Deadline,
) -> Result<Waited, Errno> {
    let slice = deadline.slice(waiting.longest_sleep());
    waiting.begin_sleep();
    match poll(watched, Some(slice.unwrap_or(Duration::ZERO))) {
        Ok(0) if slice.is_none() || deadline.passed() => Ok(Waited::TimedOut),
        Ok(0) => {
            waiting.end_slice();
            Ok(Waited::Interrupted)
        }
        Err(Errno::INTR) => {
            waiting.look_around();
            Ok(Waited::Interrupted)
        }
        Ok(_) => Ok(Waited::Ready),
        Err(errno) => Err(errno),
    }
}

fn timespec(duration: Duration) -> libc::timespec {
    let tv_sec = libc::time_t::try_from(duration.as_secs()).unwrap_or(libc::time_t::MAX);
    libc::timespec { tv_sec, tv_nsec: duration.subsec_nanos().into() }
}

fn by_poll(watched: &mut [Watched<'_>], longest: Option<Duration>) -> Result<usize, Errno> {
    let timeout = longest.map(timespec);
    let timeout = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    let (first, number) = (watched.as_mut_ptr().cast::<libc::pollfd>(), watched.len() as libc::nfds_t);
    // SAFETY: `Watched` is repr(transparent) over pollfd, `number` of them begin there, and the timeout lives as long.
    let ready = unsafe { libc::ppoll(first, number, timeout, std::ptr::null()) };
    usize::try_from(ready).map_err(|_| last_errno())
}

fn last_errno() -> Errno {
    let errno = std::io::Error::last_os_error().raw_os_error();
    Errno::from_raw_os_error(errno.unwrap_or(libc::EINVAL))
}

/// As `ppoll` tells it.
fn by_select(watched: &mut [Watched<'_>], longest: Option<Duration>) -> Result<usize, Errno> {
    let end = longest.and_then(|longest| Instant::now().checked_add(longest));
    loop {
        let left = end.map(|end| end.saturating_duration_since(Instant::now()));
        let looks_again = watched.iter().any(|one| one.wants_end() && has_data(one.borrowed()));
        let slice = if looks_again { Some(left.unwrap_or(BETWEEN_LOOKS).min(BETWEEN_LOOKS)) } else { left };
        let ready = select_once(watched, slice, looks_again)?;
        if ready > 0 || left == Some(Duration::ZERO) {
            return Ok(ready);
        }
    }
}

/// `select`, with those that want the end alone among those to read from, unless there is something to read at one.
fn select_once(
    watched: &mut [Watched<'_>],
    longest: Option<Duration>,
    without_ends: bool,
) -> Result<usize, Errno> {
    // Of one that is beyond the table of open descriptors `select` says nothing, of others only that there is one.
    let (longest, some_closed) = if mark_closed(watched) { (NO_TIME, true) } else { (longest, false) };
    let open = |one: &Watched<'_>| !one.is_ready();
    let numbers = watched.iter().filter(|one| open(one)).map(|one| one.0.fd + 1).max().unwrap_or(0);
    let sets =
        || vec![FdSetElement::default(); rustix::event::fd_set_num_elements(numbers as usize, numbers)];
    let (mut to_read, mut to_write) = (sets(), sets());
    for one in watched.iter().filter(|one| open(one)) {
        if one.wants(PollFlags::IN) || one.wants_end() && !without_ends {
            rustix::event::fd_set_insert(&mut to_read, one.0.fd);
        }
        if one.wants(PollFlags::OUT) {
            rustix::event::fd_set_insert(&mut to_write, one.0.fd);
        }
    }
    let timeout = longest.map(|longest| {
        let libc::timespec { tv_sec, tv_nsec } = timespec(longest);
        Timespec { tv_sec, tv_nsec }
    });
    // SAFETY: nothing is done to a file, and a number that is no descriptor is refused.
    let selected = unsafe {
        rustix::event::select(numbers, Some(&mut to_read), Some(&mut to_write), None, timeout.as_ref())
    };
    match selected {
        // Closed meanwhile: the caller looks again, as after a signal.
        Err(Errno::BADF) if !some_closed => return Err(Errno::INTR),
        Err(Errno::BADF) => {}
        other => {
            other?;
            watched.iter_mut().for_each(|one| mark_found(one, &to_read, &to_write));
        }
    }
    Ok(watched.iter().filter(|one| one.is_ready()).count())
}

fn mark_found(one: &mut Watched<'_>, to_read: &[FdSetElement], to_write: &[FdSetElement]) {
    let (number, borrowed) = (one.0.fd, one.borrowed());
    if one.wants(PollFlags::OUT) && contains(to_write, number) {
        one.found(PollFlags::OUT);
    }
    if !contains(to_read, number) {
        return;
    }
    if one.wants(PollFlags::IN) {
        one.found(PollFlags::IN);
    } else if one.wants_end() && !has_data(borrowed) {
        one.found(PollFlags::HUP);
    }
}

fn contains(set: &[FdSetElement], number: RawFd) -> bool {
    FdSetIter::new(set).any(|found| found == number)
}

/// Marks those that are no descriptors, and no others; whether there are some.
fn mark_closed(watched: &mut [Watched<'_>]) -> bool {
    for one in &mut *watched {
        one.0.revents = 0;
        if rustix::fs::fstat(one.borrowed()).err() == Some(Errno::BADF) {
            one.found(PollFlags::NVAL);
        }
    }
    watched.iter().any(Watched::is_ready)
}

/// Whether there is something to read, and not the end.
fn has_data(socket: BorrowedFd<'_>) -> bool {
    let peek = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    rustix::net::recv(socket, &mut [0u8], peek).is_ok_and(|(_, length)| length > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType};
    use std::os::fd::{AsFd, OwnedFd};

    fn pair() -> (OwnedFd, OwnedFd) {
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .expect("two descriptors")
    }

    const NOW: Option<Duration> = Some(Duration::ZERO);
    const SHORT: Option<Duration> = Some(Duration::from_millis(60));
    type Way = fn(&mut [Watched<'_>], Option<Duration>) -> Result<usize, Errno>;

    /// Both, of each kind of descriptor and wish.
    #[test]
    fn both_ways_find_the_same() {
        for way in [by_poll as Way, by_select as Way] {
            let (ours, theirs) = pair();
            let wishes = [PollFlags::IN, PollFlags::OUT, PollFlags::empty()];
            let look = |longest| {
                let mut watched: Vec<_> =
                    wishes.iter().map(|&wish| Watched::new(ours.as_fd(), wish)).collect();
                let ready = way(&mut watched, longest).expect("no refusal");
                let found: Vec<bool> = watched.iter().map(Watched::is_ready).collect();
                assert_eq!(ready, found.iter().filter(|found| **found).count());
                found
            };
            assert_eq!(look(NOW), [false, true, false]);
            rustix::net::send(&theirs, b"x", SendFlags::empty()).expect("room");
            assert_eq!(look(NOW), [true, true, false], "data is no end");
            let mut end_alone = [Watched::new(ours.as_fd(), PollFlags::empty())];
            assert_eq!(way(&mut end_alone, SHORT), Ok(0));
            rustix::net::recv(&ours, &mut [0u8; 4], RecvFlags::empty()).expect("a byte");
            assert_eq!(way(&mut end_alone, SHORT), Ok(0));
            drop(theirs);
            assert_eq!(look(NOW), [true, true, true]);
            assert_eq!(way(&mut end_alone, None), Ok(1));
        }
    }

    #[test]
    fn what_is_no_descriptor_is_ready_in_both_ways() {
        let (_ours, theirs) = pair();
        // SAFETY: a number that no process has.
        let nothing = unsafe { BorrowedFd::borrow_raw(1_000_000) };
        for way in [by_poll as Way, by_select as Way] {
            let mut watched = [Watched::readable(theirs.as_fd()), Watched::readable(nothing)];
            assert_eq!(way(&mut watched, None), Ok(1));
            assert_eq!((watched[0].is_ready(), watched[1].is_ready()), (false, true));
        }
    }

    #[test]
    fn a_wait_ends_with_its_time_or_with_what_is_waited_for() {
        for way in [by_poll as Way, by_select as Way] {
            let (ours, theirs) = pair();
            let begun = Instant::now();
            assert_eq!(way(&mut [Watched::readable(ours.as_fd())], SHORT), Ok(0));
            assert!(begun.elapsed() >= Duration::from_millis(60));
            let sender = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(60));
                drop(theirs);
            });
            assert_eq!(way(&mut [Watched::readable(ours.as_fd())], None), Ok(1));
            sender.join().expect("no panic");
        }
    }
}
