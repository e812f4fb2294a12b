//! What lives inside shared memory.
