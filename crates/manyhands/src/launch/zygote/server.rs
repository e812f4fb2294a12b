//! The server's end: takes requests, reports children. It never ends over what the kernel refuses: the request is refused,
//! and the next one may find better times.

use super::message::{self, Order};
use super::reserve::{Demand, Reserve};
use crate::family::Family;
use crate::sys::pidfd::{self, Ended};
use crate::sys::polling::{self, Watched};
use crate::sys::{OsError, heap, limits, memory, passing};
use crate::waiting::Record;
use manyhands_sync::deadline::Deadline;
use manyhands_sync::kill_point;
use manyhands_sync::notes::{Role, WaitKind};
use manyhands_sync::park::Waiting;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// What a child in reserve is called while it waits.
const RESERVE_NAME: &std::ffi::CStr = c"mh-reserve";

/// How often a server looks around that cannot poll for what it waits for.
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// The server's end: asks for requests, reports children.
#[derive(Debug)]
pub struct Zygote {
    socket: OwnedFd,
    children: Vec<Forked>,
    reserve: Option<Reserve>,
    demand: Demand,
    /// Kept free for what must not fail: the channel of a request that is refused, the pidfd of a child that was forked.
    room: Option<OwnedFd>,
    /// How many descriptors a child may have.
    limit: limits::Descriptors,
}

#[derive(Debug)]
struct Forked {
    pidfd: OwnedFd,
    /// The number of its request, and where its status goes; nothing of a child that nobody asked for.
    request: Option<(u64, OwnedFd)>,
}

/// What a client wants started.
#[derive(Debug)]
pub struct Request {
    /// The child's slot, as a number.
    pub place: u64,
    /// What the child reads its job from.
    pub job: OwnedFd,
    /// The child's end of its life pipe.
    pub life: OwnedFd,
    /// Descriptors the child is passed.
    pub passed: Vec<OwnedFd>,
    number: u64,
    channel: OwnedFd,
}

impl Request {
    fn from(start: message::Start) -> Self {
        let message::Start { number, place, channel, job, life, passed } = start;
        Self { place, job, life, passed, number, channel }
    }
}

impl Zygote {
    /// A server over the inherited socket. It may have as many descriptors as this process can have; its children have the
    /// limit that it had. A child in reserve that has had nothing to do `kept_for` so long is sent away.
    #[must_use]
    pub fn new(socket: OwnedFd, kept_for: Duration) -> Self {
        if let Some(family) = Family::existing() {
            family.note_role(Role::Zygote);
        }
        heap::join_at_once();
        let room = memory::duplicate(socket.as_fd()).ok();
        let (demand, limit) = (Demand::new(kept_for), limits::Descriptors::raise());
        Self { socket, children: Vec::new(), reserve: None, demand, room, limit }
    }

    /// Waits for the next request, reaping children in passing; `None` when the client is gone.
    pub fn next_request(&mut self) -> Option<Request> {
        loop {
            let (asked, ended) = self.poll();
            for place in ended.into_iter().rev() {
                self.report(place);
            }
            if asked {
                match self.receive() {
                    Ok(Order::Start(start)) => {
                        self.demand.requested();
                        return Some(Request::from(start));
                    }
                    Ok(Order::Cut { channel }) => {
                        refuse(channel.as_fd(), OsError { call: "recvmsg", errno: libc::EMFILE });
                    }
                    Ok(Order::End { number }) => self.end(number),
                    Ok(Order::Nonsense) => {}
                    Ok(Order::Gone) => return None,
                    Err(OsError { errno: libc::EAGAIN, .. }) => {}
                    // Of memory: the request's channel has ended, or it is still there.
                    Err(_) => std::thread::sleep(BETWEEN_LOOKS),
                }
            } else {
                self.send_idle_away();
            }
        }
    }

    /// The first descriptor of a request is its channel, for which there is always room.
    fn receive(&mut self) -> Result<Order, OsError> {
        self.room = None;
        let order = message::receive_order_now(self.socket.as_fd());
        if !matches!(order, Ok(Order::Cut { .. })) {
            self.keep_room();
        }
        order
    }

    fn keep_room(&mut self) -> bool {
        if self.room.is_none() {
            self.room = memory::duplicate(self.socket.as_fd()).ok();
        }
        self.room.is_some()
    }

    /// Whether the socket may have something, and which children may have ended.
    fn poll(&mut self) -> (bool, Vec<usize>) {
        // What a request that was refused took is free by now.
        self.keep_room();
        let mut fds = Vec::with_capacity(2 + self.children.len());
        fds.push(Watched::readable(self.socket.as_fd()));
        fds.extend(self.children.iter().map(|child| Watched::readable(child.pidfd.as_fd())));
        fds.extend(self.reserve.iter().map(|reserve| Watched::readable(reserve.pidfd.as_fd())));
        let _noted = Record::new(0, Deadline::NEVER).note(&mut Waiting::at_leisure(WaitKind::Requests));
        loop {
            let longest = self.reserve.as_ref().and_then(|reserve| reserve.until.left());
            match polling::poll(&mut fds, longest) {
                Err(rustix::io::Errno::INTR) => {}
                Ok(_) => break,
                // Of memory, say. What could not be found out may be: each is tried, and none is waited for.
                Err(_) => {
                    std::thread::sleep(BETWEEN_LOOKS);
                    return (true, (0..fds.len() - 1).collect());
                }
            }
        }
        let ended = (1..fds.len()).filter(|&i| fds[i].is_ready()).map(|i| i - 1).collect();
        (fds[0].is_ready(), ended)
    }

    fn report(&mut self, place: usize) {
        if place == self.children.len() {
            // The child in reserve was killed.
            self.reserve.take_if(|reserve| !matches!(pidfd::reap(reserve.pidfd.as_fd()), Ok(None)));
            return;
        }
        let pidfd = self.children[place].pidfd.as_fd();
        let status = match pidfd::reap(pidfd) {
            Ok(None) => return,
            Ok(Some(Ended::With(status))) => Some(status),
            // What a preloaded module has reaped, the kernel may still know.
            Ok(Some(Ended::Unknown)) | Err(_) => pidfd::exit_status(pidfd),
        };
        let child = self.children.swap_remove(place);
        // Of what nobody knows the channel's end tells. A client that has dropped the process does not read it.
        if let (Some((_, channel)), Some(status)) = (child.request, status) {
            let _ = passing::send(channel.as_fd(), &status.to_le_bytes(), &[]);
        }
    }

    /// Of a child in reserve whose time is over, when there is no request.
    fn send_idle_away(&mut self) {
        let Some(reserve) = self.reserve.take_if(|reserve| reserve.until.passed()) else { return };
        self.demand.waited_in_vain();
        self.children.push(Forked { pidfd: reserve.send_away(), request: None });
        kill_point!(ReserveSentAway);
    }

    /// The client has given up a request; its child may have been started.
    fn end(&mut self, number: u64) {
        let asked = |child: &&Forked| matches!(child.request, Some((of, _)) if of == number);
        if let Some(child) = self.children.iter().find(asked) {
            let _ = pidfd::signal(child.pidfd.as_fd(), libc::SIGKILL);
        }
    }

    /// Has the child in reserve carry out the request; gives it back if there is none, or it was killed.
    pub fn hand_over(&mut self, request: Request) -> Option<Request> {
        let Some(Reserve { pid, pidfd, socket, .. }) = self.reserve.take() else { return Some(request) };
        let mut fds = vec![request.channel.as_fd(), request.job.as_fd(), request.life.as_fd()];
        fds.extend(request.passed.iter().map(AsFd::as_fd));
        if message::send_start(socket.as_fd(), request.number, request.place, &fds).is_err() {
            // It ends, or has ended: its socket is closed.
            self.children.push(Forked { pidfd, request: None });
            return Some(request);
        }
        drop(socket);
        self.demand.used();
        kill_point!(ZygoteHandedOver);
        self.tell(pid, pidfd, request);
        None
    }

    /// Before the fork for a request: there must be room for the child's descriptor afterwards.
    ///
    /// # Errors
    /// When there is none.
    pub fn make_room(&mut self) -> Result<(), OsError> {
        if self.keep_room() {
            return Ok(());
        }
        Err(OsError { call: "fcntl(F_DUPFD_CLOEXEC)", errno: libc::EMFILE })
    }

    /// The request cannot be carried out: its client is told why.
    pub fn refuse(&mut self, request: Request, why: OsError) {
        refuse(request.channel.as_fd(), why);
    }

    /// Whether a child is to be forked before there is a request for it: there is none yet, and it is likely to be used.
    #[must_use]
    pub fn wants_reserve(&self) -> bool {
        self.reserve.is_none() && self.demand.pays()
    }

    /// Before the fork of a child in reserve: the zygote's end and the child's.
    ///
    /// # Errors
    /// When the kernel refuses a descriptor.
    pub fn channel(&mut self) -> Result<(OwnedFd, OwnedFd), OsError> {
        self.make_room()?;
        passing::pair()
    }

    /// A child was forked that waits at the other end of `socket`. One that cannot be watched is ended.
    pub fn reserved(&mut self, pid: u32, socket: OwnedFd) {
        kill_point!(ZygoteReserved);
        self.room = None;
        match pidfd::open_child(pid) {
            Ok(Some(pidfd)) => {
                self.reserve = Some(Reserve { pid, pidfd, socket, until: self.demand.until() });
            }
            Ok(None) => {}
            Err(_) => pidfd::end_unwatched_child(pid),
        }
        self.keep_room();
    }

    /// In a forked child, first of all: it keeps nothing of the server's.
    pub fn let_go(self) {
        self.limit.restore();
    }

    /// In the child in reserve: waits for its request; `None` when the zygote is gone. Meanwhile `ps` and others show it
    /// under a name of its own.
    ///
    /// # Errors
    /// When the kernel refuses a descriptor.
    pub fn await_request(socket: &OwnedFd) -> Result<Option<Request>, OsError> {
        let name = rustix::thread::name().ok();
        let _ = rustix::thread::set_name(RESERVE_NAME);
        let order = message::receive_order(socket.as_fd());
        if let Some(name) = name {
            let _ = rustix::thread::set_name(&name);
        }
        match order? {
            Order::Start(start) => {
                kill_point!(ReserveAsked);
                Ok(Some(Request::from(start)))
            }
            Order::Cut { .. } => Err(OsError { call: "recvmsg", errno: libc::EMFILE }),
            Order::End { .. } | Order::Nonsense | Order::Gone => Ok(None),
        }
    }

    /// The request was carried out: the child is this process's, and its client is told. A child that cannot be watched is
    /// ended, and the request refused.
    pub fn forked(&mut self, request: Request, pid: u32) {
        kill_point!(ZygoteForked);
        self.room = None;
        match pidfd::open_child(pid) {
            Ok(Some(pidfd)) => self.tell(pid, pidfd, request),
            // A client that is gone meanwhile is noticed at the next request.
            Ok(None) => _ = message::send_started(request.channel.as_fd(), pid, None),
            Err(why) => {
                pidfd::end_unwatched_child(pid);
                self.refuse(request, why);
            }
        }
        self.keep_room();
    }

    fn tell(&mut self, pid: u32, pidfd: OwnedFd, request: Request) {
        let told = message::send_started(request.channel.as_fd(), pid, Some(&pidfd));
        match told {
            // It has given the request up: should it send an "end", the child has to be found.
            Ok(()) | Err(OsError { errno: libc::EPIPE | libc::ECONNRESET, .. }) => {}
            Err(why) => {
                let _ = pidfd::signal(pidfd.as_fd(), libc::SIGKILL);
                refuse(request.channel.as_fd(), why);
            }
        }
        self.children.push(Forked { pidfd, request: Some((request.number, request.channel)) });
        kill_point!(ZygoteTold);
    }
}

fn refuse(channel: BorrowedFd<'_>, why: OsError) {
    // A client that has given the request up does not read it.
    let _ = message::send_refused(channel, why);
}
