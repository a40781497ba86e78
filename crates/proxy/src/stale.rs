//! Which UDP "connections" lead where they must not any more. Pure.
//!
//! The kernel remembers for each UDP client where its packets were led, and goes on leading them there as long as they
//! come: to a pod that is gone, if nobody makes it forget. TCP needs no help, for its clients begin anew.

use crate::service::{Port, Protocol, Service, Slice};
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

/// An address and a port.
pub(crate) type Place = (IpAddr, u16);

/// Where packets of one UDP client go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Flow {
    /// Where the client sends them.
    pub(crate) to: Place,
    /// Who answers.
    pub(crate) from: Place,
}

/// Who may answer for which UDP port of a Service.
#[derive(Debug, Default)]
pub(crate) struct Answering {
    by_place: HashMap<Place, BTreeSet<Place>>,
    by_node_port: HashMap<u16, BTreeSet<Place>>,
}

impl Answering {
    /// No Service that was added has UDP ports.
    pub(crate) fn is_empty(&self) -> bool {
        self.by_place.is_empty() && self.by_node_port.is_empty()
    }

    /// Adds a Service. `is_own`: addresses that this machine itself answers on.
    pub(crate) fn add<'a>(
        &mut self,
        service: &Service,
        slices: impl Iterator<Item = &'a Slice> + Clone,
        is_own: impl Fn(&IpAddr) -> bool,
    ) {
        let addresses = [&service.cluster_ips, &service.external_ips, &service.balancer_ips];
        for port in service.ports.iter().filter(|port| port.protocol == Protocol::Udp) {
            let endpoints = endpoints(port, slices.clone());
            for address in addresses.into_iter().flatten() {
                if !endpoints.is_empty() || !is_own(address) {
                    let place = (*address, port.port);
                    self.by_place.entry(place).or_default().extend(&endpoints);
                }
            }
            if let Some(number) = port.node_port {
                self.by_node_port.entry(number).or_default().extend(&endpoints);
            }
        }
    }

    /// Whether a client's packets go to nobody who stands behind the Service that it means.
    pub(crate) fn is_stale(&self, flow: &Flow) -> bool {
        if let Some(endpoints) = self.by_place.get(&flow.to) {
            return !endpoints.contains(&flow.from);
        }
        // What is not led elsewhere has nothing to do with node ports: they may be any port of any other machine.
        let is_led = flow.from != flow.to;
        let endpoints = self.by_node_port.get(&flow.to.1);
        is_led && endpoints.is_some_and(|endpoints| !endpoints.contains(&flow.from))
    }
}

/// All that answer, be they shutting down.
fn endpoints<'a>(port: &Port, slices: impl Iterator<Item = &'a Slice>) -> BTreeSet<Place> {
    let of_slice = |slice: &'a Slice| {
        let number = slice.number_of(port);
        let endpoints = slice.endpoints.iter();
        endpoints.filter_map(move |endpoint| Some((endpoint.address, number?)))
    };
    slices.flat_map(of_slice).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::k8s::api::{core::v1 as core, discovery::v1 as discovery};
    use serde_json::json;

    fn answering(ready: &[&str]) -> Answering {
        let service: core::Service = serde_json::from_value(json!({"spec": {
            "clusterIP": "10.96.0.5", "externalIPs": ["198.51.100.7"],
            "ports": [{"name": "dns", "port": 53, "protocol": "UDP", "nodePort": 30053}, {"name": "web", "port": 80}],
        }}))
        .unwrap();
        let endpoints: Vec<_> = ready.iter().map(|address| json!({"addresses": [address]})).collect();
        let slice: discovery::EndpointSlice = serde_json::from_value(json!({
            "addressType": "IPv4", "endpoints": endpoints,
            "ports": [{"name": "dns", "port": 1053, "protocol": "UDP"}, {"name": "web", "port": 8080}],
        }))
        .unwrap();
        let (service, slice) = (Service::read(&service).unwrap(), Slice::read(&slice, "here"));
        let mut answering = Answering::default();
        answering.add(&service, [&slice].into_iter(), |address| {
            address.to_string() == "10.96.0.5"
        });
        answering
    }

    fn place(text: &str) -> Place {
        let address: std::net::SocketAddr = text.parse().unwrap();
        (address.ip(), address.port())
    }

    #[track_caller]
    fn check(answering: &Answering, to: &str, from: &str, expected: bool) {
        let flow = Flow {
            to: place(to),
            from: place(from),
        };
        assert_eq!(answering.is_stale(&flow), expected, "{to} answered by {from}");
    }

    #[test]
    fn packets_to_a_pod_that_is_gone_are_stale() {
        let answering = answering(&["10.244.0.2"]);
        for to in ["10.96.0.5:53", "198.51.100.7:53", "192.0.2.1:30053"] {
            check(&answering, to, "10.244.0.2:1053", false);
            check(&answering, to, "10.244.0.3:1053", true);
            check(&answering, to, "10.244.0.2:53", true);
        }
    }

    #[test]
    fn what_is_not_for_a_service_is_left_alone() {
        let answering = answering(&["10.244.0.2"]);
        check(&answering, "10.96.0.5:80", "10.244.0.9:8080", false);
        check(&answering, "10.96.0.6:53", "10.244.0.9:1053", false);
        check(&answering, "203.0.113.9:30053", "203.0.113.9:30053", false);
    }

    #[test]
    fn own_addresses_without_endpoints_are_answered_by_this_machine() {
        let answering = answering(&[]);
        check(&answering, "10.96.0.5:53", "10.96.0.5:53", false);
        check(&answering, "198.51.100.7:53", "10.244.0.3:1053", true);
    }
}
