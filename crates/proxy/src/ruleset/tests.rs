//! The rules are given to a real `nft` in a network namespace of the test's own.

use super::*;
use crate::element::Destination;
use crate::nft;
use crate::rules;
use crate::service::{Endpoint, Port, Protocol, Service, Slice};
use nix::sched::{CloneFlags, unshare};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

/// Runs in a network of its own, which ends with the thread.
fn in_a_network_of_its_own(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(|| {
        if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
            println!("no network of its own: {error}");
            return;
        }
        test();
    });
    thread.join().unwrap();
}

fn nft(commands: &str) -> Result<(), nft::NftError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(nft::apply(commands))
}

fn listed() -> String {
    let output = std::process::Command::new("nft")
        .args(["-s", "list", "ruleset"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    // Chains are listed in the order in which they were made, which does not matter, and elements in any order.
    let mut blocks: Vec<String> = text.split("\n\n").map(sorted_elements).collect();
    blocks.sort();
    blocks.join("\n\n")
}

fn sorted_elements(block: &str) -> String {
    let mut words: Vec<&str> = block.lines().flat_map(|line| line.split(", ")).map(str::trim).collect();
    if block.contains("elements = {") {
        words = block.split([',', '\n', '{', '}']).map(str::trim).collect();
        words.retain(|word| !word.is_empty());
        words.sort_unstable();
    }
    // The table's own closing brace stands in whichever block comes last.
    words.join("\n").trim_end_matches(['}', '\n']).to_owned()
}

/// A Service on one of three addresses with up to three endpoints, of which some are on this node.
fn part() -> impl Strategy<Value = (u8, Part)> {
    let shape = (
        0..4u8,
        prop::collection::btree_set(0..4u8, 0..4),
        any::<[bool; 4]>(),
        0..3u8,
    );
    shape.prop_map(|(name, endpoints, [affinity, local, external, gone], shared)| {
        let key = key(name);
        if gone {
            return (name, Part::default());
        }
        let service = Service {
            cluster_ips: BTreeSet::from([IpAddr::V4(Ipv4Addr::new(10, 96, 0, name))]),
            external_ips: (external)
                .then(|| IpAddr::V4(Ipv4Addr::new(203, 0, 113, shared)))
                .into_iter()
                .collect(),
            balancer_ips: (external)
                .then(|| IpAddr::V4(Ipv4Addr::new(198, 51, 100, shared)))
                .into_iter()
                .collect(),
            balancer_sources: local.then(|| "192.0.2.0/24".to_owned()).into_iter().collect(),
            ports: vec![
                Port {
                    name: "a".into(),
                    protocol: Protocol::Tcp,
                    port: 80,
                    node_port: external.then_some(30080),
                },
                Port {
                    name: "b".into(),
                    protocol: Protocol::Udp,
                    port: 53,
                    node_port: None,
                },
            ],
            affinity_seconds: affinity.then_some(100),
            is_internal_local: local,
            is_external_local: local,
            health_port: None,
        };
        let endpoints = endpoints.into_iter().map(|number| Endpoint {
            address: IpAddr::V4(Ipv4Addr::new(10, 244, 0, number)),
            is_ready: true,
            is_leaving: false,
            is_here: number % 2 == 0,
            is_for_node: None,
            for_zones: None,
        });
        let slice = Slice {
            ports: vec![("a".into(), Protocol::Tcp, 8080), ("b".into(), Protocol::Udp, 53)],
            endpoints: endpoints.collect(),
        };
        (name, rules::of_service(&around(), Family::V4, &key, &service, [&slice]))
    })
}

fn around() -> Surroundings {
    Surroundings {
        pod_cidrs: vec![
            (Family::V4, "10.244.0.0/16".to_owned()),
            (Family::V4, "10.244.7.0/24".to_owned()),
            (Family::V6, "fd00:10:244::/64".to_owned()),
        ],
        own: BTreeSet::new(),
        masquerade_all: false,
        zone: None,
    }
}

fn key(name: u8) -> Key {
    Key {
        namespace: "n".into(),
        name: format!("s{name}"),
    }
}

#[test]
fn steps_lead_the_kernel_to_the_same_rules_as_all_at_once() {
    in_a_network_of_its_own(|| {
        let mut runner = TestRunner::new(Config {
            cases: 12,
            failure_persistence: None,
            ..Config::default()
        });
        let batches = prop::collection::vec(prop::collection::vec(part(), 1..4), 1..6);
        let outcome = runner.run(&batches, |batches| {
            let mut ruleset = Ruleset::new(Family::V4, &around());
            nft(&ruleset.whole(&[])).unwrap();
            for batch in batches {
                let parts: BTreeMap<Key, Part> = batch.into_iter().map(|(name, part)| (key(name), part)).collect();
                let commands = ruleset.change(parts.clone());
                nft(&commands).map_err(|error| TestCaseError::fail(format!("{error}\n{commands}")))?;
                prop_assert_eq!(ruleset.change(parts), "", "the same again is no change");
            }
            let by_steps = listed();
            nft(&ruleset.whole(&[])).unwrap();
            prop_assert_eq!(by_steps, listed());
            Ok(())
        });
        outcome.unwrap();
    });
}

#[test]
fn frame_is_accepted_for_both_families_and_removed_without_trace() {
    in_a_network_of_its_own(|| {
        for family in Family::BOTH {
            for (pod_cidrs, masquerade_all) in [(around().pod_cidrs, false), (Vec::new(), false), (Vec::new(), true)] {
                let around = Surroundings {
                    pod_cidrs,
                    masquerade_all,
                    ..around()
                };
                nft(&Ruleset::new(family, &around).whole(&[])).unwrap();
            }
        }
        assert!(listed().contains(TABLE));
        nft(&Family::BOTH.map(removal).concat()).unwrap();
        assert!(!listed().contains(TABLE));
    });
}

#[test]
fn element_that_two_services_claim_goes_to_the_next_when_the_first_leaves() {
    let to = Destination {
        address: None,
        protocol: Protocol::Tcp,
        port: 30080,
    };
    let claim = |lead: Lead| Part {
        elements: BTreeMap::from([(Element::Service(to), lead)]),
        ..Part::default()
    };
    let mut ruleset = Ruleset::new(Family::V4, &around());
    let commands = ruleset.change([(key(2), claim(Lead::Drop))]);
    assert_eq!(
        commands,
        "add element ip steadfast-proxy service-nodeports { tcp . 30080 : drop }\n"
    );
    let commands = ruleset.change([(key(1), claim(Lead::Reject))]);
    let expected = "delete element ip steadfast-proxy service-nodeports { tcp . 30080 : drop }
add element ip steadfast-proxy service-nodeports { tcp . 30080 : goto reject-chain }
";
    assert_eq!(commands, expected);
    assert_eq!(ruleset.change([(key(2), claim(Lead::Drop))]), "");
    let commands = ruleset.change([(key(1), Part::default())]);
    assert!(
        commands.ends_with("add element ip steadfast-proxy service-nodeports { tcp . 30080 : drop }\n"),
        "{commands}"
    );
    assert!(!ruleset.is_empty());
    ruleset.change([(key(2), Part::default())]);
    assert!(ruleset.is_empty() && ruleset.claims.iter().next().is_none());
}

/// A Service with this many endpoints.
fn with_endpoints(number: u8, count: u8) -> (Key, Part) {
    let service = Service {
        cluster_ips: BTreeSet::from([IpAddr::V4(Ipv4Addr::new(10, 96, 0, number))]),
        external_ips: BTreeSet::new(),
        balancer_ips: BTreeSet::new(),
        balancer_sources: Vec::new(),
        ports: vec![Port {
            name: String::new(),
            protocol: Protocol::Tcp,
            port: 80,
            node_port: None,
        }],
        affinity_seconds: None,
        is_internal_local: false,
        is_external_local: false,
        health_port: None,
    };
    let endpoint = |i| Endpoint {
        address: IpAddr::V4(Ipv4Addr::new(10, 244, number, i)),
        is_ready: true,
        is_leaving: false,
        is_here: true,
        is_for_node: None,
        for_zones: None,
    };
    let slice = Slice {
        ports: vec![(String::new(), Protocol::Tcp, 8080)],
        endpoints: (0..count).map(endpoint).collect(),
    };
    let part = rules::of_service(&around(), Family::V4, &key(number), &service, [&slice]);
    (key(number), part)
}

#[test]
fn services_with_as_many_endpoints_share_a_chain() {
    let mut ruleset = Ruleset::new(Family::V4, &around());
    let chains = |commands: &str| {
        let lines = commands.lines().filter(|line| line.contains(" chain "));
        let words = lines.map(|line| line.replace(" chain ip steadfast-proxy", ""));
        words.collect::<Vec<_>>().join("; ")
    };
    assert_eq!(chains(&ruleset.change([with_endpoints(1, 2)])), "add inside-tcp-2");
    assert_eq!(chains(&ruleset.change([with_endpoints(2, 2)])), "");
    assert_eq!(chains(&ruleset.change([with_endpoints(1, 3)])), "add inside-tcp-3");
    assert_eq!(
        chains(&ruleset.change([with_endpoints(2, 3)])),
        "flush inside-tcp-2; delete inside-tcp-2"
    );
    // What one endpoint more takes does not depend on how many other Services there are.
    let commands = ruleset.change([with_endpoints(2, 4)]);
    assert_eq!(commands.lines().count(), 7, "{commands}");
}

#[test]
fn clients_that_are_remembered_stay_so_when_all_rules_are_replaced() {
    in_a_network_of_its_own(|| {
        let set = "affinity-1-n/s/tcp/-10.244.0.1/80".to_owned();
        let with = |seconds: u32| Part {
            sets: BTreeMap::from([(
                set.clone(),
                format!("type ipv4_addr; flags dynamic,timeout; timeout {seconds}s;"),
            )]),
            ..Part::default()
        };
        let mut ruleset = Ruleset::new(Family::V4, &around());
        ruleset.change([(key(1), with(3600))]);
        nft(&ruleset.whole(&[])).unwrap();
        let table = table(Family::V4);
        nft(&format!(
            "add element {table} {set} {{ 192.0.2.7 timeout 3600s expires 1800s, 192.0.2.8 }}\n"
        ))
        .unwrap();
        let remembered = read_remembered();
        assert_eq!(remembered.len(), 2, "{remembered:?}");
        nft(&ruleset.whole(&remembered)).unwrap();
        let again = read_remembered();
        let seconds = |clients: &[Remembered]| clients.iter().map(|client| client.expires_s).min().unwrap();
        assert_eq!(again.len(), 2, "{again:?}");
        assert!((1700..=1800).contains(&seconds(&again)), "{again:?}");
        // Another time-out is another promise; a set that is gone is nobody's.
        ruleset.change([(key(1), with(60))]);
        nft(&ruleset.whole(&remembered)).unwrap();
        assert_eq!(read_remembered(), []);
        ruleset.change([(key(1), Part::default())]);
        nft(&ruleset.whole(&remembered)).unwrap();
    });
}

fn read_remembered() -> Vec<Remembered> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(nft::remembered(Family::V4)).unwrap()
}
