//! What a pool of Rust processes can fail with: one enum for an item, one for the pool.

use crate::family::FamilyError;
use crate::pool::PoolError;
use crate::program::SpawnError;
use crate::queue::SendError;
use crate::sys::OsError;

/// Why one item has no result. The others have theirs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskError {
    /// The function returned an error.
    Failed {
        /// The item's place among those of its call.
        item: usize,
        /// What the function returned.
        message: String,
    },
    /// The function panicked; its worker goes on.
    Panicked {
        /// The item's place among those of its call.
        item: usize,
        /// The panic's message.
        message: String,
    },
    /// The worker died over the item: it aborted, crashed, was killed or left by `exit`. It was replaced.
    WorkerDied {
        /// The worker's process.
        pid: u32,
        /// Its exit code, or minus the signal that killed it.
        status: i32,
        /// The item's place among those of its call.
        item: usize,
    },
}

impl std::fmt::Display for TaskError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Failed { item, message } => write!(f, "item {item} failed: {message}"),
            Self::Panicked { item, message } => write!(f, "item {item} panicked: {message}"),
            Self::WorkerDied { pid, status, item } if *status < 0 => {
                write!(f, "item {item} was lost: its worker, process {pid}, was killed by signal {}", -status)
            }
            Self::WorkerDied { pid, status, item } => {
                write!(f, "item {item} was lost: its worker, process {pid}, ended with status {status}")
            }
        }
    }
}

impl std::error::Error for TaskError {}

/// Why a pool of processes could not be started, or could not do what it was asked as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProcessPoolError {
    /// The program lists no task of that name.
    UnknownTask(String),
    /// A worker could not be started.
    Spawn(SpawnError),
    /// There is no shared memory left.
    Memory(SendError),
    /// The kernel refused.
    Os(OsError),
    /// Workers keep dying before they are ready.
    Broken,
    /// The pool's shared memory is damaged.
    Corrupted,
}

impl std::fmt::Display for ProcessPoolError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::UnknownTask(name) => write!(f, "the program lists no task {name:?}"),
            Self::Spawn(error) => error.fmt(f),
            Self::Memory(error) => error.fmt(f),
            Self::Os(error) => error.fmt(f),
            Self::Broken => f.write_str(
                "the pool's workers end before they are ready: see what they wrote to standard error",
            ),
            Self::Corrupted => f.write_str("the pool's shared memory is damaged"),
        }
    }
}

impl std::error::Error for ProcessPoolError {}

impl From<SpawnError> for ProcessPoolError {
    fn from(error: SpawnError) -> Self {
        Self::Spawn(error)
    }
}

impl From<FamilyError> for ProcessPoolError {
    fn from(error: FamilyError) -> Self {
        Self::Spawn(error.into())
    }
}

impl From<PoolError> for ProcessPoolError {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Os(error) => Self::Os(error),
            PoolError::Memory(error) => Self::Memory(error),
        }
    }
}

impl From<SendError> for ProcessPoolError {
    fn from(error: SendError) -> Self {
        match error {
            SendError::OutOfMemory { .. } => Self::Memory(error),
            // A pool's rings have no bound, and whoever waits for a lock gets it.
            SendError::Full | SendError::Busy | SendError::Shut | SendError::Corrupted => Self::Corrupted,
        }
    }
}

impl From<OsError> for ProcessPoolError {
    fn from(error: OsError) -> Self {
        Self::Os(error)
    }
}
