//! The whole control plane in one thread: a seed, a paused clock, faults, and checkers that know nothing of the code.
//!
//! An [`episode`] is one life of a small cluster: the API server's router on a memory store, all controllers, the
//! scheduler and a few model nodes ([`node`]), each a client of the API through a [`link`] that delays, cuts, refuses
//! and breaks off as the seed says, while a [`user`] edits, scales, deletes and rolls back at bad moments. Then the
//! faults stop, the user puts things right, and the cluster must come to rest. Every committed state, every request of
//! the controllers and every start and end of a container is looked at by [`check`].
//!
//! The same seed gives the same episode, so a failing one is run again with its trace, shortened by leaving out
//! whatever is not needed for it to fail ([`shorten`]).

mod chance;
mod check;
mod dawn;
mod empty;
mod entropy;
mod episode;
pub mod forked;
mod link;
mod node;
mod request;
pub mod shorten;
mod user;
mod watching;
mod world;

pub use episode::{Episode, Outcome, run, warm_up};
pub use world::FAULTS;
