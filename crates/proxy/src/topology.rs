//! Which endpoints are near enough, when a Service asks for traffic to stay near (`trafficDistribution`).
//!
//! The hints in EndpointSlices say where each endpoint is meant to be used from. They count only if all ready endpoints
//! have some and at least one is meant for here; otherwise somebody would get nothing, or everything.

use crate::service::Endpoint;

/// What an endpoint must be meant for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Near<'a> {
    /// Nothing: hints do not count.
    Everywhere,
    /// This node.
    Node,
    /// This zone.
    Zone(&'a str),
}

impl Near<'_> {
    /// Whether an endpoint is near. One that is shutting down always is: it gets packets only if nobody else can.
    pub(crate) fn takes(self, endpoint: &Endpoint) -> bool {
        !endpoint.is_ready
            || match self {
                Self::Everywhere => true,
                Self::Node => endpoint.is_for_node == Some(true),
                Self::Zone(zone) => endpoint.for_zones.as_ref().is_some_and(|zones| zones.contains(zone)),
            }
    }
}

/// What the hints of these endpoints come to on a node in `zone`.
pub(crate) fn near<'a, 'b>(zone: Option<&'a str>, endpoints: impl Iterator<Item = &'b Endpoint> + Clone) -> Near<'a> {
    let mut ready = endpoints.filter(|endpoint| endpoint.is_ready);
    let ways = [Some(Near::Node), zone.map(Near::Zone)];
    let counts = |near: &Near<'a>| {
        let has_hint = |endpoint: &Endpoint| match near {
            Near::Node => endpoint.is_for_node.is_some(),
            _ => endpoint.for_zones.is_some(),
        };
        ready.clone().all(has_hint) && ready.clone().any(|endpoint| near.takes(endpoint))
    };
    let chosen = ways.into_iter().flatten().find(counts);
    // An empty set needs no choice.
    ready.next().and(chosen).unwrap_or(Near::Everywhere)
}
