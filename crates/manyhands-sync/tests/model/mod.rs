//! What the loom tests share: memory that loom watches, threads that are killed at a step, every order counted.
#![allow(unsafe_code)] // implements Memory
#![allow(dead_code)] // each test file uses its part
#![allow(clippy::disallowed_types)] // counts the orders, outside the model
#![allow(clippy::unwrap_used)]

use manyhands_sync::arena::{Arena, Backing, CHUNK_BYTES, CommitError, Kind, Owner};
use manyhands_sync::kill_point::{KillPoint, arm};
use manyhands_sync::memory::{self, Memory, Shareable};
use manyhands_sync::process_table::Place;
use manyhands_sync::ring::{Ring, RingHeader};
use std::cell::Cell;
use std::collections::HashMap;
use std::ptr::NonNull;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

loom::thread_local! {
    /// Who this thread is to the arena: the word of an `Owner`; 0 for somebody who never dies.
    static ME: Cell<u64> = Cell::new(0);
}

/// From now on this thread of the model is the member of that place.
pub(crate) fn be(place: Place) {
    ME.with(|me| me.set(Owner::Member(place.index, place.life).to_word()));
}

/// Memory whose copied words loom watches.
#[derive(Clone, Copy)]
pub(crate) struct Watched {
    base: NonNull<u8>,
    bytes: u64,
    cells: &'static Mutex<HashMap<u64, &'static loom::cell::UnsafeCell<()>>>,
}

// SAFETY: leaked memory that belongs to nobody; loom runs one thread at a time.
unsafe impl Send for Watched {}
// SAFETY: as above.
unsafe impl Sync for Watched {}

impl Watched {
    /// One piece of memory serves all orders of a model.
    pub(crate) fn new(chunks: u64) -> Self {
        let bytes = chunks * CHUNK_BYTES;
        let words = vec![[0u64; 8]; bytes as usize / 64 + 1].leak();
        let skip = words.as_ptr().cast::<u8>().align_offset(64);
        // SAFETY: the vector has one line more than is used.
        let base = unsafe { words.as_mut_ptr().cast::<u8>().add(skip) };
        Self { base: NonNull::new(base).expect("not null"), bytes, cells: Box::leak(Box::default()) }
    }

    /// Something placed there behind everyone's back.
    pub(crate) fn place_new<T: Shareable>(&self, offset: u64, value: T) -> Option<&'static T> {
        // SAFETY: the tests place where they have allocated.
        unsafe { memory::place_new(self, offset, value) }
    }

    /// Begins a new order: what loom knew of the words belongs to the last one.
    pub(crate) fn forget(&self) {
        self.cells.lock().expect("whole").clear();
    }

    fn touch(&self, offset: u64, len: usize, write: bool) {
        for word in offset / 8..(offset + len as u64).div_ceil(8) {
            let fresh = || &*Box::leak(Box::new(loom::cell::UnsafeCell::new(())));
            let cell = *self.cells.lock().expect("whole").entry(word).or_insert_with(fresh);
            if write { cell.with_mut(|_| ()) } else { cell.with(|_| ()) }
        }
    }
}

// SAFETY: bounds are checked, the memory is leaked.
unsafe impl Memory for Watched {
    fn resolve(&self, offset: u64, len: usize) -> Option<NonNull<u8>> {
        if offset.checked_add(len as u64)? > self.bytes {
            return None;
        }
        // SAFETY: inside the memory, checked above.
        Some(unsafe { self.base.add(offset as usize) })
    }

    unsafe fn copy_in(&self, offset: u64, from: &[u8]) -> bool {
        self.touch(offset, from.len(), true);
        let Some(to) = self.resolve(offset, from.len()) else { return false };
        // SAFETY: as the default's.
        unsafe { to.copy_from_nonoverlapping(NonNull::from(from).cast(), from.len()) };
        true
    }

    unsafe fn read_word(&self, offset: u64) -> Option<u64> {
        self.touch(offset, 8, false);
        let from = self.resolve(offset, 8)?.cast::<u64>();
        // SAFETY: as the default's.
        Some(unsafe { from.read_unaligned() })
    }

    unsafe fn copy_out(&self, offset: u64, len: usize, out: &mut Vec<u8>) -> bool {
        self.touch(offset, len, false);
        let Some(from) = self.resolve(offset, len) else { return false };
        // SAFETY: resolve() vouches for the bytes; the slice lives for this line.
        out.extend_from_slice(unsafe { std::slice::from_raw_parts(from.as_ptr(), len) });
        true
    }

    unsafe fn copy_out_racing(&self, offset: u64, len: usize, out: &mut Vec<u8>) -> bool {
        // Watched as any copy: nobody reads an inbox while its worker writes, but for one who only looks.
        // SAFETY: as the default's.
        unsafe { self.copy_out(offset, len, out) }
    }

    unsafe fn copy_within(&self, from: u64, to: u64, len: usize) -> bool {
        self.touch(from, len, false);
        self.touch(to, len, true);
        let (Some(source), Some(target)) = (self.resolve(from, len), self.resolve(to, len)) else {
            return false;
        };
        // SAFETY: as the default's, and a copy that may overlap needs no more.
        unsafe { source.copy_to(target, len) };
        true
    }
}

impl Backing for Watched {
    fn commit(&self, _offset: u64, _len: u64) -> Result<(), CommitError> {
        Ok(())
    }

    fn give_back(&self, _offset: u64, _len: u64) {}

    fn me(&self) -> Owner {
        match ME.with(Cell::get) {
            0 => Owner::Shared,
            word => Owner::from_word(word),
        }
    }
}

/// Runs the check on a fresh arena of so many chunks, in every order within the preemption bound.
pub(crate) fn model(name: &str, chunks: u64, check: impl Fn(Arena<Watched>) + Sync + Send + 'static) {
    let orders = std::sync::Arc::new(AtomicU64::new(0));
    // One piece of memory serves all orders of a model.
    let (counted, memory) = (orders.clone(), Watched::new(chunks));
    let mut builder = loom::model::Builder::new();
    builder.max_branches = 20_000;
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        memory.forget();
        // SAFETY: the memory is the model's own, and so is the arena.
        check(unsafe { Arena::create(memory, 1, 1, chunks * CHUNK_BYTES) }.unwrap());
    });
    println!("{name}: {orders:?} orders");
}

/// As [`model`], for what needs no arena.
pub(crate) fn orders(name: &str, check: impl Fn() + Sync + Send + 'static) {
    let orders = std::sync::Arc::new(AtomicU64::new(0));
    let counted = orders.clone();
    let mut builder = loom::model::Builder::new();
    builder.max_branches = 20_000;
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        check();
    });
    println!("{name}: {orders:?} orders");
}

/// Runs `work` in a thread of the model that dies when it gets to `point`; whether it died.
pub(crate) fn killed_at(
    point: KillPoint,
    work: impl FnOnce() + Send + 'static,
) -> loom::thread::JoinHandle<bool> {
    loom::thread::spawn(move || {
        arm(point, 1);
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_err()
    })
}

/// A ring in a block of that arena.
pub(crate) fn fresh_ring(arena: Arena<Watched>) -> Ring<Watched> {
    let place = arena.allocate_kind(Kind::Ring, size_of::<RingHeader>() as u64).unwrap().share();
    let header = Ring::new_header(&arena, 0).unwrap();
    Ring::found(arena, arena.backing().place_new(place.offset, header).unwrap(), place)
}
