//! What threads of one process tell each other: that something has changed, of which each knows where to look.
//!
//! In ordinary memory, so it outlives nobody. A condition variable of the standard library would do, but for signals: a wait
//! here is parked as any other (`park.rs` of manyhands-sync), looks around as any other, and is noted for observers.
//!
//! | actor | does | when |
//! |---|---|---|
//! | a waiter | asks [`News::so_far`], under the lock of what it looks at, then looks | first |
//! | a waiter | parks while there is no more than that | when it has found nothing |
//! | a teller | changes something, under that lock, then [`News::tell`]s | at each change |

use crate::waiting::{Record, block};
use manyhands_sync::deadline::Deadline;
use manyhands_sync::notes::WaitKind;
use manyhands_sync::park::{Parked, Waited, Waiting};
use manyhands_sync::wait_word::{EVERYONE, WaitWord};
use std::sync::atomic::{AtomicU32, Ordering};

/// A count of changes, to wait on.
#[derive(Debug, Default)]
pub struct News {
    told: AtomicU32,
    word: WaitWord,
}

impl News {
    /// What was told so far.
    #[must_use]
    pub fn so_far(&self) -> u32 {
        self.told.load(Ordering::Acquire)
    }

    /// Something has changed: all who wait look again.
    pub fn tell(&self) {
        self.told.fetch_add(1, Ordering::Release);
        self.word.wake(EVERYONE);
    }

    /// Parks once: until something is told beyond what is `known`, the deadline passes, a signal arrives or the sleep has come
    /// to its end. Observers see a wait for `object`; for none when that is 0.
    pub fn park(&self, known: u32, object: u64, waiting: &mut Waiting, deadline: Deadline) -> Waited {
        let record = Record::new(object, deadline);
        let note = |waiting: &mut Waiting| (object != 0).then(|| record.note(waiting)).flatten();
        self.word.wait(|| self.so_far() != known, waiting, deadline, note)
    }

    /// Waits until something is told beyond what is `known`; `false` when the deadline passed first. `on_signal` is called
    /// whenever a signal may have come; what it returns as an error ends the wait.
    ///
    /// # Errors
    /// What `on_signal` returned.
    pub fn wait_interruptibly<E>(
        &self,
        known: u32,
        deadline: Deadline,
        on_signal: impl FnMut() -> Result<(), E>,
    ) -> Result<bool, E> {
        let told = block(WaitKind::Answers, 0, deadline, on_signal, |waiting, _| {
            Parked::from(self.park(known, 0, waiting, deadline))
        })?;
        Ok(told.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;
    use std::time::Duration;

    #[test]
    fn what_was_told_before_the_wait_ends_it() {
        let news = News::default();
        let known = news.so_far();
        news.tell();
        let Ok(told) = news.wait_interruptibly(known, Deadline::NEVER, || Ok::<_, Infallible>(()));
        assert!(told);
        let soon = Deadline::after(Duration::from_millis(30));
        let Ok(told) = news.wait_interruptibly(news.so_far(), soon, || Ok::<_, Infallible>(()));
        assert!(!told);
    }

    #[test]
    fn everybody_hears_of_it_however_long_the_sleep() {
        let news = News::default();
        let known = news.so_far();
        std::thread::scope(|scope| {
            let waiters: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let mut waiting = Waiting::undisturbed(WaitKind::Answers);
                        news.park(known, 0, &mut waiting, Deadline::NEVER)
                    })
                })
                .collect();
            std::thread::sleep(Duration::from_millis(50));
            news.tell();
            for waiter in waiters {
                assert_eq!(waiter.join().expect("no panic"), Waited::Ready);
            }
        });
    }

    #[test]
    fn what_a_handler_raises_ends_the_wait() {
        let news = News::default();
        let waited = news.wait_interruptibly(news.so_far(), Deadline::NEVER, || Err("raised"));
        assert_eq!(waited, Err("raised"));
    }
}
