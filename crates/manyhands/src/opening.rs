//! Messages that this thread is opening. They are out of their queue; what they carry is about to be held by this
//! process. When shared memory is full there is no reference to be had for that, and the message would be lost: then this
//! process makes the message's reference its own. The steps are in `arena/references.rs` of manyhands-sync.

use crate::family::Extents;
use crate::payload::{Block, carried_by};
use manyhands_sync::arena::{Arena, Handle, Owner};
use std::cell::RefCell;
use std::marker::PhantomData;

thread_local! {
    /// Those messages, the innermost last, and the process that began with each: a fork copies them.
    static OPEN: RefCell<Vec<(Handle, Owner)>> = const { RefCell::new(Vec::new()) };
}

/// This thread opens a message until this is dropped: see [`Block::opening`].
#[derive(Debug)]
pub struct Opening<'a> {
    message: Handle,
    /// The message's block must outlive it; and it is this thread's.
    block: PhantomData<(&'a Block, *const ())>,
}

impl<'a> Opening<'a> {
    pub(crate) fn of(_block: &'a Block, arena: Arena<Extents>, message: Handle) -> Self {
        OPEN.with_borrow_mut(|open| open.push((message, arena.me())));
        Self { message, block: PhantomData }
    }
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        // Not always the last one: threads of control of the user's own may take turns.
        OPEN.with_borrow_mut(|open| {
            if let Some(at) = open.iter().rposition(|(message, _)| *message == self.message) {
                open.remove(at);
            }
        });
    }
}

/// A reference to `target` that a message carried which this thread is opening; it is this process's now.
pub(crate) fn adopt(arena: Arena<Extents>, target: Handle) -> Option<Handle> {
    let me = arena.me();
    let open: Vec<_> = OPEN.with_borrow(|open| open.iter().rev().copied().collect());
    let own = open.into_iter().filter(|(_, opener)| *opener == me);
    own.map(|(message, _)| message).find_map(|message| {
        let mut carried = carried_by(arena, message).into_iter();
        carried.find(|&reference| {
            arena.target_of(reference) == Ok(target) && arena.adopt(reference, message).is_ok()
        })
    })
}
