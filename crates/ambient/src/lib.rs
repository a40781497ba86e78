//! Time and chance: what the world gives unasked.
//!
//! Shells ask here for the wall clock and for random numbers, so that a simulation can give both on its own thread and
//! run again exactly as it ran. Elsewhere this is the system's clock and generator and nothing else. (The monotonic
//! clock needs no such place: tokio's can be paused.)

#![forbid(unsafe_code)]

use std::cell::RefCell;

use jiff::Timestamp;
use rand::RngCore;

/// Where a simulated thread has its time and chance from.
pub trait Source {
    /// The wall clock.
    fn now(&mut self) -> Timestamp;
    /// The next random number.
    fn random(&mut self) -> u64;
}

thread_local! {
    static SOURCE: RefCell<Option<Box<dyn Source>>> = const { RefCell::new(None) };
}

/// While it lives, time and chance of this thread come from a source.
#[derive(Debug)]
pub struct Taken(());

impl Drop for Taken {
    fn drop(&mut self) {
        SOURCE.with_borrow_mut(|known| *known = None);
    }
}

/// Takes time and chance of this thread over.
pub fn take_over(source: impl Source + 'static) -> Taken {
    SOURCE.with_borrow_mut(|known| *known = Some(Box::new(source)));
    Taken(())
}

/// The wall clock.
pub fn now() -> Timestamp {
    SOURCE.with_borrow_mut(|source| source.as_mut().map_or_else(Timestamp::now, |source| source.now()))
}

/// A generator of random numbers, good for names and jitter, not for secrets.
pub fn rng() -> Rng {
    Rng(())
}

/// See [`rng`].
#[derive(Debug)]
pub struct Rng(());

impl RngCore for Rng {
    fn next_u32(&mut self) -> u32 {
        // The upper half.
        u32::try_from(self.next_u64() >> 32).unwrap_or_default()
    }

    fn next_u64(&mut self) -> u64 {
        SOURCE.with_borrow_mut(|source| {
            let taken = source.as_mut().map(|source| source.random());
            taken.unwrap_or_else(|| rand::rng().next_u64())
        })
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let random = self.next_u64().to_le_bytes();
            chunk.copy_from_slice(&random[..chunk.len()]);
        }
    }
}

/// A random number from 0 to below 1.
pub fn fraction() -> f64 {
    rand::Rng::random(&mut rng())
}

/// A random (version 4) UUID.
pub fn uuid() -> uuid::Uuid {
    let mut bytes = [0; 16];
    rng().fill_bytes(&mut bytes);
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Counter(u64);

    impl Source for Counter {
        fn now(&mut self) -> Timestamp {
            Timestamp::UNIX_EPOCH
        }

        fn random(&mut self) -> u64 {
            self.0 += 1;
            self.0
        }
    }

    #[test]
    fn time_and_chance_are_the_system_s_unless_taken_over() {
        let taken = take_over(Counter(0));
        assert_eq!(now(), Timestamp::UNIX_EPOCH);
        assert_eq!((rng().next_u64(), rng().next_u64()), (1, 2));
        assert_eq!(uuid().get_version_num(), 4);
        drop(taken);
        assert!(now() > Timestamp::UNIX_EPOCH);
        assert_ne!(uuid(), uuid());
        assert!((0.0..1.0).contains(&fraction()));
    }
}
