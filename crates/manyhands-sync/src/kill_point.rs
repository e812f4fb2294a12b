//! Numbered steps of the shared-memory protocols at which a fault-injection build kills its own process.
//!
//! In an ordinary build [`kill_point!`](crate::kill_point) is nothing. With the feature `kill-points` a test
//! arms one step, and the process dies by SIGKILL when it gets there for the n-th time; a survivor then checks
//! the invariants. A step's number never changes its meaning; new steps get new numbers.

macro_rules! steps {
    ($($name:ident = $number:literal, $meaning:literal;)*) => {
        /// A step of a shared-memory protocol.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub enum KillPoint { $(#[doc = $meaning] $name = $number,)* }

        impl KillPoint {
            /// Every step there is.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// What has happened, and what has not, when a process dies here.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => $meaning,)* }
            }
        }
    };
}

steps! {
    RingPutLocked = 1, "ring: a producer holds the tail lock and has written nothing";
    RingPutCopied = 2, "ring: a frame lies in the segment, not committed";
    RingPutCommitted = 3, "ring: a frame is committed, the mirror count is not";
    RingPutUnlocked = 4, "ring: the tail lock is free, nobody has been woken";
    RingLinkWritten = 5, "ring: a new segment holds the frame and is not linked";
    RingLinkCommitted = 6, "ring: the new segment is linked, the tail still names the old one";
    RingTakeLocked = 7, "ring: a consumer holds the head lock and has read nothing";
    RingTakeCopied = 8, "ring: a frame was copied out, not committed";
    RingTakeCommitted = 9, "ring: a frame is taken, the mirror count is not";
    RingUnlinkCommitted = 10, "ring: the head names the next segment, the old one is not freed";
    ArenaPopMarked = 11, "arena: the first free block is marked held and still on its list";
    ArenaPopCommitted = 12, "arena: the block is off its list, nobody knows it yet";
    ArenaPushMarked = 13, "arena: a freed block is marked free and not on its list";
    ArenaCarved = 14, "arena: fresh memory is carved off, its block header is not written";
    ArenaExtentReserved = 15, "arena: a new extent is in the directory, its units are free";
    SeatInboxWritten = 16, "seat: a batch lies in the inbox, not yet taken from the ring";
    SeatBatchTaken = 17, "seat: a batch is taken, none of it started";
    SeatItemStarted = 18, "seat: an item is marked started and has no result";
    SeatItemAnswered = 19, "seat: an item's result is committed and the item is not marked done";
    RingTailRepaired = 20, "ring: a dead producer's count was put right, the lock is not declared consistent";
    RingHeadRepaired = 21, "ring: a dead consumer's count was put right and its notes settled, the lock is not declared consistent";
    ArenaListRepaired = 22, "arena: a dead member's free list was put right, the lock is not declared consistent";
    RingPutCounted = 40, "ring: a frame is committed and counted, the tail lock is held";
    RingSpareMade = 41, "ring: a new segment is laid out, the tail lock is not taken yet";
    RingTailMoved = 42, "ring: a new segment is linked and the tail names it, the frame is not put yet";
    RingTakeCounted = 43, "ring: a frame is taken and counted, its taker has not noted it";
    RingTakeNoted = 44, "ring: a frame is taken, counted and noted, the head lock is held";
    RingTakeUnlocked = 45, "ring: the head lock is free, a left segment is not freed and no producer woken";
    RingTailHelped = 46, "ring: a consumer has left a segment and moved the tail past it";
    RingRepairFollowed = 47, "ring: who repairs the tail has moved it past a link, the count is not put right";
    SeatSettled = 48, "seat: who repairs the task ring's head has settled this seat, perhaps not the next";
    WaitBitSet = 49, "wait word: a waiter has said that it may be asleep, and is not";
    WaitWakeCounted = 50, "wait word: a wake is counted, nobody has been woken";
    WaitBitCleared = 51, "wait word: the sleepers' bit is cleared, the second wake has not been made";
    PayloadFilled = 52, "queue, pool: a block is filled with a long message, no frame names it";
    PayloadTaken = 53, "queue, pool: a frame that names a block is taken, the block is not freed";
    BellTaken = 54, "pool: the wish for the bell is taken back, the bell has not been rung";
    PoolSeatPlaced = 55, "pool: a seat is laid out for a new pool, perhaps not the next";
    PoolDismissed = 56, "pool: the workers are dismissed, none of them has been woken";
    SlotReserved = 57, "launch: a slot is reserved for a child, nothing has been started";
    SlotRegistered = 58, "launch: a process is in the table and has not noted where";
    ArenaPushCommitted = 23, "arena: a freed block is on its list and still belongs to who freed it";
    ArenaFreed = 24, "arena: a block is in its next life, not on a list yet";
    ArenaHeaderWritten = 25, "arena: a block's header is written, its memory not carved off";
    ReferenceLogged = 26, "references: what was is in the log, nothing is changed";
    ReferenceCounted = 27, "references: the target's count is changed, its owner and the reference's mark are not";
    ReferenceMarked = 28, "references: everything is changed, the log still says what was";
    ReferenceCommitted = 29, "references: the log is cleared, the lock is held";
    ReferenceAdopted = 190, "references: what a message carried is its receiver's, which does not know it yet";
    ReferencesRepaired = 30, "references: a dead member's change was undone, the lock is not declared consistent";
    SweepClaimed = 31, "sweep: a dead member's block belongs to the sweeper, nothing else has happened";
    SweepReleased = 32, "sweep: a dead member's reference is released, what it was the last of is not freed";
    ArenaKeepCounted = 114, "arena: a freed large block counts among the kept ones, its header does not say so";
    ArenaGivenBack = 115, "arena: a large block's pages are given back, what is noted of them is not all settled";
    ArenaGivingBack = 117, "arena: a large block says that none of its pages is certain, they are all there";
    ArenaStripped = 116, "arena: a block on its list has no pages any more and says so, the count of all does not";
    ArenaRegionMade = 170, "arena: free units have become a region, what is counted of them is not settled";
    ArenaRegionDissolved = 171, "arena: a region's units are free, what is noted of their pages is not all settled";
    ArenaUnitStripped = 172, "arena: a free unit's pages are given back, its word says that it has some";
    GatherSetAside = 173, "gather: free blocks are off their list, those of no use are not back on it";
    GatherTaken = 174, "gather: the gatherer holds all that it got of the regions to be dissolved";
    GatherEmptied = 175, "gather: the gatherer holds every block of a region, which is not dissolved yet";
    SlotClaimed = 33, "process table: a slot is taken for a child, its words are the last member's";
    SlotNamed = 34, "process table: a process has written its pid into its slot and not registered";
    SlotRegistering = 120, "process table: a process has taken its slot and written nothing more of itself into it";
    SlotWritten = 121, "process table: a process has written all of itself into its slot and is no member yet";
    SlotReleased = 122, "process table: a dead member's slot is free, nothing of what it held is";
    SlotJudged = 123, "process table: a process has found a member dead, and not released its slot";
    SlotHalfForked = 185, "process table: a parent has said in which namespace it forked its child, and not the pid there";
    ChildForked = 186, "launch: a child is forked, its parent has not said which pid it has";
    SweepCycleClaimed = 35, "sweep: a structure that nobody can reach belongs to the sweeper, perhaps not the next";
    NoteClaimed = 60, "notes: a waiting thread has taken a note and not written it";
    NoteWritten = 61, "notes: a thread's wait is noted, the thread is not asleep yet";
    NoteGivenBack = 62, "notes: a thread is awake and has given its note back";
    LockTaken = 70, "lock: the word names its taker, who has not noted its thread";
    LockNoted = 71, "lock: its taker has noted its thread";
    LockFlagged = 72, "lock: a waiter has said that it may be asleep, and is not";
    LockCleared = 73, "lock: its holder has taken its thread's name off, the word still names it";
    LockReleased = 74, "lock: the word is free, nobody has been woken";
    LockTakenOver = 75, "lock: it was taken over from a dead holder, which nobody has been told";
    LockKept = 76, "lock: a process that ends has marked this lock of its own, perhaps not the next";
    LockStamped = 191, "lock: a waiter has waited for long and asks for a turn, and is not asleep";
    LockReserved = 192, "lock: it is reserved for those who have slept, nobody has been woken";
    LockWoken = 193, "lock: a waiter was woken and has not tried";
    SemaphoreTaken = 77, "semaphore: one is taken";
    SemaphoreFlagged = 78, "semaphore: a waiter has said that it may be asleep, and is not";
    SemaphoreGiven = 79, "semaphore: one is given back, nobody has been woken";
    SemaphoreCleared = 80, "semaphore: the sleepers' flag is cleared, the second wake has not been made";
    SemaphoreStamped = 194, "semaphore: a waiter has waited for long and asks for a turn, and is not asleep";
    SemaphoreReserved = 195, "semaphore: one is given back and reserved for those who have slept, nobody has been woken";
    SemaphoreWoken = 196, "semaphore: a waiter was woken and has not tried";
    TurnstileClosed = 197, "mutex: a waiter has waited for long and keeps others off, and waits still";
    TurnstilePassed = 198, "mutex: the waiter that keeps others off has the lock";
    TurnstileOpened = 199, "mutex: others are kept off no more, those that sleep for it have not been woken";
    ConditionJoined = 90, "condition: a waiter is counted, and holds the lock still";
    ConditionNotified = 91, "condition: waiters are granted, nobody has been woken";
    ConditionTaken = 92, "condition: a waiter has taken its grant, and not the lock";
    ConditionLeft = 93, "condition: a waiter whose time is over is counted out";
    EventFlagged = 95, "event: a waiter has said that it may be asleep, and is not";
    EventSet = 96, "event: the flag is up, nobody has been woken";
    BarrierPlaced = 100, "barrier: a party has a place, and is not counted";
    BarrierCounted = 101, "barrier: a party is counted, and waits";
    BarrierActing = 102, "barrier: everybody is there, the action has not been run";
    BarrierTripped = 103, "barrier: the next generation has begun, nobody has been woken";
    BarrierLeft = 104, "barrier: a party is counted out, its place is not given back";
    BarrierBroken = 105, "barrier: it is broken or reset, nobody has been woken";
    QueueShut = 110, "queue: nothing more is put, nobody has been woken, and it is not shut at once if it was to be";
    QueueDiscardCounted = 111, "queue: what lies in it is counted to be discarded, it is not shut at once yet";
    QueueShutAtOnce = 112, "queue: it is shut at once, nobody has been woken and what lies in it is not freed";
    PinCounted = 140, "pins: a shared structure is pinned, nobody knows it yet";
    PinReferred = 141, "pins: a reference to a pinned structure is made, it is not counted";
    PinAdopted = 142, "pins: a pin has become a reference, which is not released yet";
    ForkAnnounced = 143, "launch: a child's references are taken, it is not forked";
    ForkPlaced = 144, "launch: a forked child has taken its place, its references are not noted";
    QueueTaskDone = 113, "queue: an item is counted as done, nobody has been woken";
    RingMoveLinked = 187, "ring: an empty ring's new segment is linked, head and tail name the old one, both locks are held";
    RingMoveTailed = 188, "ring: an empty ring's tail names its new segment, its head the old one, both locks are held";
    RingMoved = 189, "ring: an empty ring has its new segment alone, the old one is not freed, both locks are held";
    ZygoteAsked = 150, "fork server: its client has sent a request and not waited for the reply";
    ZygoteForked = 151, "fork server: a child is forked for a request, its client has not been told";
    ZygoteHandedOver = 152, "fork server: the child in reserve has the request, the client has not been told";
    ZygoteTold = 153, "fork server: the client is told of its child, no other one is in reserve";
    ZygoteReserved = 154, "fork server: a child waits in reserve, its server does not watch it yet";
    ReserveAsked = 155, "fork server: the child in reserve has its request and has not taken its slot";
    ReserveSentAway = 156, "fork server: the child in reserve is sent away, nobody has collected it";
}

#[cfg(loom)]
mod armed {
    //! Under loom every build has its kill points, and a death is that of one model thread.
    use super::KillPoint;
    use std::cell::Cell;

    loom::thread_local! {
        static ARMED: Cell<(u32, u32)> = Cell::new((0, 0));
    }

    /// Arms `point` in this model thread: it dies when it gets there for the `nth` time (1 is the first).
    pub fn arm(point: KillPoint, nth: u32) {
        ARMED.with(|armed| armed.set((point as u32, nth)));
    }

    /// What the macro calls.
    #[doc(hidden)]
    pub fn pass(point: KillPoint) {
        let (armed, left) = ARMED.with(Cell::get);
        if armed == point as u32 {
            ARMED.with(|a| a.set((armed, left.wrapping_sub(1))));
            if left == 1 {
                crate::primitive::die();
            }
        }
    }
}

#[cfg(all(feature = "kill-points", not(loom)))]
mod armed {
    #![allow(clippy::disallowed_types)] // process-local: not part of any shared structure
    use super::KillPoint;
    use core::sync::atomic::{AtomicU32, Ordering};

    static POINT: AtomicU32 = AtomicU32::new(0);
    static PASSES_LEFT: AtomicU32 = AtomicU32::new(0);

    /// Arms `point`: the process dies when it gets there for the `nth` time (1 is the first).
    pub fn arm(point: KillPoint, nth: u32) {
        PASSES_LEFT.store(nth, Ordering::SeqCst);
        POINT.store(point as u32, Ordering::SeqCst);
    }

    /// What the macro calls.
    #[doc(hidden)]
    pub fn pass(point: KillPoint) {
        if POINT.load(Ordering::Relaxed) == point as u32 && PASSES_LEFT.fetch_sub(1, Ordering::SeqCst) == 1 {
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
            loop {
                std::thread::park();
            }
        }
    }
}

#[cfg(any(feature = "kill-points", loom))]
pub use armed::{arm, pass};

/// What the macro calls: nothing in an ordinary build.
#[cfg(not(any(feature = "kill-points", loom)))]
#[doc(hidden)]
#[inline(always)]
pub const fn pass(_point: KillPoint) {}

/// Marks a numbered step; nothing in an ordinary build. Whether it is one is this crate's feature, not that of
/// the crate that marks the step.
#[macro_export]
macro_rules! kill_point {
    ($name:ident) => {
        $crate::kill_point::pass($crate::kill_point::KillPoint::$name)
    };
}
