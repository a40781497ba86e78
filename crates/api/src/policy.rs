//! Admission policies: rules written in CEL about what may be written, and changes that are made to what is written.
//!
//! ```text
//!  policy ──compile──▶ Policy ─┐
//!  binding, parameters ────────┼──judge / mutate──▶ what to say of the write, or the object as it shall be
//!  the write ──────────────────┘
//! ```
//!
//! Which policies concern a write is decided in [`matching`]; who says yes to a question of a rule is none of this
//! crate's business: it comes as a [`cel::Authorizer`].

mod compile;
mod environment;
mod judge;
pub mod matching;
mod mutate;
mod typecheck;
mod types;

pub use cel::{Authorizer, Decision, Question};
pub use compile::{Policy, Problem};
pub use environment::{Request, Subject};
pub use judge::{Denial, Judgement};
pub use typecheck::warnings;

pub(crate) use compile::problems;
