//! The headers in front of tasks and answers. Everything read is checked: the bytes come from another process.

use manyhands_sync::arena::Handle;

/// How many bytes a task's header takes.
pub(super) const TASK_BYTES: usize = 36;
/// How many bytes an answer's header takes.
pub(super) const ANSWER_BYTES: usize = 24;

/// A function, sent once: by what number workers remember it, and where those who do not know it find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its number in this pool.
    pub id: u32,
    /// The block that holds its bytes. Not for others to say: who withdraws a function frees it.
    pub(super) handle: Handle,
    /// How many bytes it has.
    pub(super) len: u32,
}

impl Function {
    /// None: for tasks of a kind that needs no function.
    #[must_use]
    pub const fn none(id: u32) -> Self {
        Self { id, handle: Handle { offset: 0, generation: 0 }, len: 0 }
    }
}

/// What to do, in front of the arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Task {
    /// The job it belongs to.
    pub job: u32,
    /// The index of its first item within the job.
    pub index: u32,
    /// How many items it has.
    pub items: u32,
    /// How the arguments are to be understood: the caller's own numbering.
    pub kind: u32,
    /// The function to call.
    pub function: Function,
}

impl Task {
    pub(super) fn to_bytes(self) -> [u8; TASK_BYTES] {
        let mut bytes = [0; TASK_BYTES];
        let words = [self.job, self.index, self.items, self.kind, self.function.id, self.function.len];
        for (to, word) in bytes.chunks_exact_mut(4).zip(words) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        bytes[24..].copy_from_slice(&self.function.handle.to_bytes());
        bytes
    }

    pub(super) fn split_from(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (header, rest) = bytes.split_first_chunk::<TASK_BYTES>()?;
        let word = |i: usize| u32::from_le_bytes([header[i], header[i + 1], header[i + 2], header[i + 3]]);
        let handle = Handle::from_bytes(&header[24..])?;
        let function = Function { id: word(16), handle, len: word(20) };
        Some((Self { job: word(0), index: word(4), items: word(8), kind: word(12), function }, rest))
    }
}

/// How a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Status {
    /// The payload is the result.
    Returned = 0,
    /// The payload is what was raised.
    Raised = 1,
    /// Not a task: the worker could not make itself ready. The payload is what was raised.
    Unready = 2,
    /// The arguments could not be read, so nothing was begun. The payload is what was raised.
    Unread = 3,
}

/// The outcome of a task, in front of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The job it belongs to.
    pub job: u32,
    /// The index of the first item it answers.
    pub index: u32,
    /// How many items it answers.
    pub items: u32,
    /// How the task ended.
    pub status: Status,
    /// How long the function ran, in nanoseconds, for all items together.
    pub nanoseconds: u64,
}

impl Answer {
    pub(super) fn to_bytes(self) -> [u8; ANSWER_BYTES] {
        let mut bytes = [0; ANSWER_BYTES];
        let words = [self.job, self.index, self.items, self.status as u32];
        for (to, word) in bytes.chunks_exact_mut(4).zip(words) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        bytes[16..].copy_from_slice(&self.nanoseconds.to_le_bytes());
        bytes
    }

    pub(super) fn split_from(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (header, rest) = bytes.split_first_chunk::<ANSWER_BYTES>()?;
        let word = |i: usize| u32::from_le_bytes([header[i], header[i + 1], header[i + 2], header[i + 3]]);
        let status = match word(12) {
            0 => Status::Returned,
            1 => Status::Raised,
            2 => Status::Unready,
            3 => Status::Unread,
            _ => return None,
        };
        let nanoseconds = u64::from_le_bytes(header[16..].try_into().ok()?);
        Some((Self { job: word(0), index: word(4), items: word(8), status, nanoseconds }, rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_back_as_they_went() {
        let function = Function { id: 7, handle: Handle { offset: 1 << 40, generation: 9 }, len: 1234 };
        let task = Task { job: 1, index: 2, items: 3, kind: 4, function };
        let mut bytes = task.to_bytes().to_vec();
        bytes.extend(b"rest");
        assert_eq!(Task::split_from(&bytes), Some((task, &b"rest"[..])));

        let answer = Answer { job: 1, index: 2, items: 3, status: Status::Raised, nanoseconds: u64::MAX };
        assert_eq!(Answer::split_from(&answer.to_bytes()), Some((answer, &b""[..])));
    }

    #[test]
    fn torn_headers_are_refused() {
        assert_eq!(Task::split_from(&[0; TASK_BYTES - 1]), None);
        assert_eq!(Answer::split_from(&[0; ANSWER_BYTES - 1]), None);
        let mut bytes = [0; ANSWER_BYTES];
        bytes[12] = 77;
        assert_eq!(Answer::split_from(&bytes), None);
    }
}
