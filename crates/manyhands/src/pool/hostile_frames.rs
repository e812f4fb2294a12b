//! Frames that no worker and no pool would write, read by the pool's side and by a worker: errors for the one task or
//! the one answer, never a panic, a loop, or memory for lengths that somebody invented.

use super::task::{ANSWER_BYTES, TASK_BYTES};
use super::*;
use crate::random_bytes::RandomBytes;

const FRAMES: u64 = 20_000;

#[test]
fn headers_of_random_bytes_are_refused_or_mean_what_they_say() {
    let mut random = RandomBytes::new(1);
    for _ in 0..FRAMES {
        let bytes = random.bytes(64);
        if let Some((task, rest)) = Task::split_from(&bytes) {
            assert_eq!([&task.to_bytes()[..], rest].concat(), bytes);
        } else {
            assert!(bytes.len() < TASK_BYTES);
        }
        if let Some((answer, rest)) = Answer::split_from(&bytes) {
            assert_eq!([&answer.to_bytes()[..], rest].concat(), bytes);
        }
    }
}

#[test]
fn random_answers_are_collected_or_dropped() {
    let pool = Pool::create(Family::current().expect("memory"), 1).expect("memory");
    let mut random = RandomBytes::new(2);
    let header = Answer { job: 1, index: 2, items: 1, status: Status::Raised, nanoseconds: 5 }.to_bytes();
    let (mut batch, mut collected) = (AnswerBatch::default(), 0);
    for _ in 0..FRAMES {
        let frame = if random.below(2) == 0 {
            random.bytes(80)
        } else {
            [random.damaged(&header), random.bytes(40)].concat()
        };
        pool.link.results.put(random.below(4) as u32, &[&frame]).expect("room");
        assert!(pool.collect(&mut batch).expect("the ring itself is whole"));
        let check = |payload: Payload<'_>| match payload {
            Payload::Bytes(bytes) => assert!(bytes.len() <= frame.len() - ANSWER_BYTES),
            Payload::Block(block) => panic!("a block out of nothing: {block:?}"),
        };
        while batch.pop(check).is_some() {
            collected += 1;
        }
    }
    assert!(collected > FRAMES / 4 && collected < FRAMES, "{collected}");
    pool.destroy();
}

#[test]
fn random_tasks_fail_the_worker_and_cost_the_pool_that_task() {
    let family = Family::current().expect("memory");
    let mut random = RandomBytes::new(3);
    let function = Function { id: 1, handle: Handle { offset: 4096, generation: 1 }, len: u32::MAX };
    let header = Task { job: 1, index: 2, items: 3, kind: 4, function }.to_bytes();
    let mut refused = 0;
    for _ in 0..FRAMES / 20 {
        let pool = Pool::create(family, 1).expect("memory");
        let bell = crate::sys::memory::duplicate(pool.bell().expect("open").get().expect("open"))
            .expect("a descriptor");
        let mut worker = Worker::sit(family, pool.handle(), 0, bell).expect("a seat");
        let frame = if random.below(2) == 0 {
            random.bytes(80)
        } else {
            [random.damaged(&header), random.bytes(40)].concat()
        };
        pool.link.tasks.put(random.below(3) as u32, &[&frame]).expect("room");
        let mut arguments = Vec::new();
        match worker.next(&mut arguments) {
            Ok(Next::Task(task, block)) => {
                assert!(block.is_none() && arguments.len() + TASK_BYTES == frame.len());
                // Whatever handle and length it names.
                let bytes = worker.function(task.function);
                assert!(bytes.is_none_or(|bytes| bytes.len() == task.function.len as usize));
            }
            Ok(_) => panic!("there was a task"),
            Err(TakeError::Corrupted) => refused += 1,
            Err(error) => panic!("{error:?}"),
        }
        drop(worker);
        let estate = pool.bury(0).expect("the seat is whole");
        assert_eq!(estate.returned, 0);
        pool.destroy();
    }
    assert!(refused > FRAMES / 100, "{refused}");
}
