//! A bounded queue from async tasks to one thread that may also wait for a point in time.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::Semaphore;

#[derive(Debug)]
struct Waiting<T> {
    items: VecDeque<T>,
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
        {
            let mut waiting = self.lock();
            if waiting.closed {
                return Err(item);
            }
            waiting.items.push_back(item);
        }
        // The taker gives the room back.
        room.forget();
        self.changed.notify_one();
        Ok(())
    }

    /// Takes all items in order; waits for one, but not longer than `patience`. `None` when closed and empty.
    pub(crate) fn take_all(&self, patience: Option<Duration>) -> Option<VecDeque<T>> {
        let mut waiting = self.lock();
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
