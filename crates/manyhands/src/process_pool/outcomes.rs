//! The outcomes of one call, while they come in.

use super::{Outcome, TaskError};
use crate::pool::{Answer, Payload, Status, Task};
use crate::process_pool::worker::{PANICKED, RETURNED_AN_ERROR};

/// What is known of each item of one job.
#[derive(Debug)]
pub(super) struct Outcomes {
    job: u32,
    outcomes: Vec<Option<Outcome>>,
    missing: usize,
}

impl Outcomes {
    pub(super) fn new(job: u32, items: usize) -> Self {
        Self { job, outcomes: (0..items).map(|_| None).collect(), missing: items }
    }

    pub(super) fn are_complete(&self) -> bool {
        self.missing == 0
    }

    /// An answer came; whether it counts. Those of a call that was given up do not, and what another process wrote is
    /// believed only as far as it can be right.
    pub(super) fn answered(&mut self, answer: Answer, bytes: Vec<u8>) -> bool {
        if answer.job != self.job {
            return false;
        }
        let item = answer.index as usize;
        let outcome = match answer.status {
            Status::Returned => Ok(bytes),
            Status::Raised | Status::Unready | Status::Unread => Err(refused(item, &bytes)),
        };
        self.settle(item, outcome)
    }

    /// The worker died over this task; whether that was not known of it already.
    pub(super) fn lost(&mut self, task: Task, pid: u32, status: i32) -> bool {
        let item = task.index as usize;
        task.job == self.job && self.settle(item, Err(TaskError::WorkerDied { pid, status, item }))
    }

    fn settle(&mut self, item: usize, outcome: Outcome) -> bool {
        match self.outcomes.get_mut(item) {
            Some(place @ None) => {
                *place = Some(outcome);
                self.missing -= 1;
                true
            }
            _ => false,
        }
    }

    /// Call it when they are complete.
    pub(super) fn into_vec(self) -> Vec<Outcome> {
        self.outcomes.into_iter().flatten().collect()
    }
}

pub(super) fn bytes_of(payload: Payload<'_>) -> Vec<u8> {
    match payload {
        Payload::Bytes(bytes) => bytes.to_vec(),
        Payload::Block(block) => {
            let mut bytes = vec![0; block.len()];
            block.copy_to(&mut bytes);
            bytes
        }
    }
}

fn refused(item: usize, bytes: &[u8]) -> TaskError {
    let (&why, text) = bytes.split_first().unwrap_or((&RETURNED_AN_ERROR, &[]));
    let message = String::from_utf8_lossy(text).into_owned();
    if why == PANICKED { TaskError::Panicked { item, message } } else { TaskError::Failed { item, message } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::Function;

    fn answer(job: u32, index: u32, status: Status) -> Answer {
        Answer { job, index, items: 1, status, nanoseconds: 0 }
    }

    fn task(job: u32, index: u32) -> Task {
        let function = Function::none(0);
        Task { job, index, items: 1, kind: 0, function }
    }

    #[test]
    fn each_item_is_settled_once_and_other_jobs_do_not_count() {
        let mut outcomes = Outcomes::new(7, 3);
        assert!(outcomes.answered(answer(7, 2, Status::Returned), b"two".to_vec()));
        assert!(!outcomes.answered(answer(7, 2, Status::Returned), b"again".to_vec()));
        assert!(!outcomes.answered(answer(6, 0, Status::Returned), b"old".to_vec()));
        assert!(!outcomes.answered(answer(7, 3, Status::Returned), b"beyond".to_vec()));
        // Answered, then died before it could say so: the answer counts.
        assert!(!outcomes.lost(task(7, 2), 1, -9));
        assert!(outcomes.lost(task(7, 0), 1, -9));
        assert!(!outcomes.are_complete());
        assert!(outcomes.answered(answer(7, 1, Status::Raised), b"\x01boom".to_vec()));
        let expected = vec![
            Err(TaskError::WorkerDied { pid: 1, status: -9, item: 0 }),
            Err(TaskError::Panicked { item: 1, message: "boom".into() }),
            Ok(b"two".to_vec()),
        ];
        assert!(outcomes.are_complete());
        assert_eq!(outcomes.into_vec(), expected);
    }
}
