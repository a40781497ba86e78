//! The StatefulSet contract, rule by rule: each test is named after the rule (A1 …) that it checks.
//!
//! The plans are tried on a model cluster ([`world`]), which knows what a server, a kubelet and a garbage collector do
//! and nothing of the planner.

#![expect(clippy::unwrap_used, reason = "what is unwrapped in a test is what the test expects")]

mod claims;
mod convergence;
mod edges;
mod forecast;
mod identity;
mod membership;
mod order;
mod recreate;
mod revisions;
mod rollout;
mod status;
mod words;
mod world;
