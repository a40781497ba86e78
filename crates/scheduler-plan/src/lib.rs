//! Pure decisions of the scheduler: a snapshot in, a placement or the reasons why not out.
//!
//! `place(&Candidate, &Snapshot) -> Verdict` is total and deterministic. Whoever acts on a placement first enters it into
//! the snapshot (`set_pod`, `promised_volumes`, `chosen_nodes`), so that the next decision counts with it.
//! `preempt` says which less important pods must leave so that a refused one can come.
//!
//! What upstream has and this does not: image locality, volume limits of CSI drivers, storage capacity,
//! dynamic resource allocation, profiles and extenders.

mod candidate;
mod filters;
mod neighbours;
mod placement;
mod preemption;
mod readiness;
mod scores;
mod snapshot;
mod volumes;

pub use api::pod_resources::Resources;
pub use candidate::{Candidate, Key, PodTerm, Spread};
pub use placement::{ClaimStep, Placement, Refusal, Verdict, WaitsFor, place};
pub use preemption::{Budget, Preemption, preempt};
pub use readiness::{Readiness, readiness};
pub use snapshot::{NodeState, Snapshot};
pub use volumes::{BIND_COMPLETED, SELECTED_NODE, is_bound, selected_node};
