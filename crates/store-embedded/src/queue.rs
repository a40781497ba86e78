//! A bounded queue from async tasks to one thread that may also wait for a point in time.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::Semaphore;

#[derive(Debug)]
struct Waiting<T> {
    items: VecDeque<T>,
    /// How many items the taker waits for: it is not woken for fewer.
    wanted: usize,
    closed: bool,
}

/// The queue. Senders wait when it is full.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    room: Semaphore,
    waiting: Mutex<Waiting<T>>,
    changed: Condvar,
}

impl<T> Queue<T> {
    pub(crate) fn new(capacity: usize) -> Self {
        let waiting = Mutex::new(Waiting {
            items: VecDeque::new(),
            wanted: 1,
            closed: false,
        });
        Self {
            room: Semaphore::new(capacity),
            waiting,
            changed: Condvar::new(),
        }
    }

    /// Adds an item; gives it back if the queue is closed.
    pub(crate) async fn push(&self, item: T) -> Result<(), T> {
        let Ok(room) = self.room.acquire().await else {
            return Err(item);
        };
        let enough = {
            let mut waiting = self.lock();
            if waiting.closed {
                return Err(item);
            }
            waiting.items.push_back(item);
            waiting.items.len() >= waiting.wanted
        };
        // The taker gives the room back.
        room.forget();
        if enough {
            self.changed.notify_one();
        }
        Ok(())
    }

    /// How many items wait.
    pub(crate) fn len(&self) -> usize {
        self.lock().items.len()
    }

    /// Takes all items in order; waits for one, but not longer than `patience`, and then `delay` for as many as `group`.
    /// `None` when closed and empty.
    pub(crate) fn take_all(&self, patience: Option<Duration>, group: usize, delay: Duration) -> Option<VecDeque<T>> {
        let mut waiting = self.lock();
        waiting.wanted = 1;
        let idle = |waiting: &mut Waiting<T>| waiting.items.is_empty() && !waiting.closed;
        waiting = match patience {
            None => self.changed.wait_while(waiting, idle).expect(NO_PANIC),
            Some(patience) => {
                self.changed
                    .wait_timeout_while(waiting, patience, idle)
                    .expect(NO_PANIC)
                    .0
            }
        };
        if waiting.items.is_empty() && waiting.closed {
            return None;
        }
        if !waiting.items.is_empty() {
            waiting.wanted = group;
            let few = |waiting: &mut Waiting<T>| waiting.items.len() < waiting.wanted && !waiting.closed;
            waiting = self.changed.wait_timeout_while(waiting, delay, few).expect(NO_PANIC).0;
        }
        let items = std::mem::take(&mut waiting.items);
        drop(waiting);
        self.room.add_permits(items.len());
        Some(items)
    }

    /// Refuses new items; those inside can still be taken.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.room.close();
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<T>> {
        self.waiting.lock().expect(NO_PANIC)
    }
}

const NO_PANIC: &str = "nothing panics while it holds the queue";

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_group_is_waited_for_but_not_for_ever() {
        let queue = Arc::new(Queue::new(10));
        queue.push(1).await.unwrap();
        let taken = queue.take_all(None, 2, Duration::ZERO).unwrap();
        assert_eq!(taken, [1]);
        let taker = std::thread::spawn({
            let queue = queue.clone();
            move || queue.take_all(None, 3, LONG)
        });
        for item in [1, 2, 3] {
            queue.push(item).await.unwrap();
        }
        assert_eq!(taker.join().unwrap().unwrap(), [1, 2, 3]);
    }

    #[tokio::test]
    async fn closing_ends_the_wait_and_loses_nothing() {
        let queue = Arc::new(Queue::new(10));
        queue.push(1).await.unwrap();
        let taker = std::thread::spawn({
            let queue = queue.clone();
            move || (queue.take_all(None, 2, LONG), queue.take_all(None, 2, LONG))
        });
        queue.close();
        let (taken, end) = taker.join().unwrap();
        assert_eq!((taken.unwrap(), end), ([1].into(), None));
    }
}
