//! The worker's side: take a task, call the function, answer.

use crate::family::Family;
use crate::pool::{Answer, Function, Next, Phase, Status, Task, Worker};
use crate::program::{self, TaskFunction};
use crate::{Block, queue::SendError};
use manyhands_sync::arena::Handle;
use std::any::Any;
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// In front of the text of an answer that is no result: the function returned it.
pub(super) const RETURNED_AN_ERROR: u8 = 0;
/// The function panicked with it.
pub(super) const PANICKED: u8 = 1;

/// Works on that seat until the pool wants the worker to leave.
///
/// # Errors
/// When the pool is gone, or its memory makes no sense.
pub(crate) fn work(
    family: &Family,
    pool: Handle,
    seat: u32,
    bell: OwnedFd,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut worker = Worker::sit(family, pool, seat as usize, bell)?;
    let mut functions = HashMap::new();
    let mut arguments = Vec::new();
    worker.enter(Phase::Ready);
    loop {
        arguments.clear();
        match worker.next(&mut arguments).map_err(|_| "the pool's shared memory is damaged")? {
            Next::Task(task, block) => {
                bring(block, &mut arguments);
                let outcome = match function(&worker, &mut functions, task.function) {
                    Some(function) => call(&worker, function, &arguments),
                    None => Err((RETURNED_AN_ERROR, "the program lists no such task".to_owned())),
                };
                answer(&mut worker, task, outcome)?;
                worker.finish();
            }
            Next::Nothing => {
                worker.wait();
            }
            Next::Leave => return Ok(()),
        }
    }
}

/// A long item's bytes come out of its block, which is freed.
fn bring(block: Option<Block>, arguments: &mut Vec<u8>) {
    if let Some(block) = block {
        arguments.resize(block.len(), 0);
        block.copy_to(arguments);
    }
}

/// The function behind a task, looked up by name once.
fn function(
    worker: &Worker,
    known: &mut HashMap<u32, Option<TaskFunction>>,
    function: Function,
) -> Option<TaskFunction> {
    *known.entry(function.id).or_insert_with(|| {
        let name = worker.function(function)?;
        program::task_function(str::from_utf8(&name).ok()?)
    })
}

fn call(worker: &Worker, function: TaskFunction, item: &[u8]) -> Result<Vec<u8>, (u8, String)> {
    worker.begin_item(1);
    match catch_unwind(AssertUnwindSafe(|| function(item))) {
        Ok(returned) => returned.map_err(|message| (RETURNED_AN_ERROR, message)),
        Err(panic) => Err((PANICKED, message_of(&*panic))),
    }
}

fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

fn answer(worker: &mut Worker, task: Task, outcome: Result<Vec<u8>, (u8, String)>) -> Result<(), SendError> {
    let nanoseconds = u64::try_from(worker.running_for().as_nanos()).unwrap_or(u64::MAX);
    let header = |status| Answer { job: task.job, index: task.index, items: task.items, status, nanoseconds };
    match outcome {
        Ok(bytes) => match worker.answer(header(Status::Returned), &[&bytes]) {
            // A result for which there is no memory fails its own item, with few bytes.
            Err(SendError::OutOfMemory { wanted_bytes, limit_bytes }) => {
                let refused = SendError::OutOfMemory { wanted_bytes, limit_bytes }.to_string();
                worker.answer(header(Status::Raised), &[&[RETURNED_AN_ERROR], refused.as_bytes()])
            }
            answered => answered,
        },
        Err((why, message)) => worker.answer(header(Status::Raised), &[&[why], message.as_bytes()]),
    }
}
