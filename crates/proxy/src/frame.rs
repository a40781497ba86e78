//! What a table holds without any Service: maps, hooks, and the chains that lead from one to the other. Pure.

use crate::element::Map;
use crate::rules::Surroundings;
use crate::ruleset;
use crate::service::Family;

/// The mark on packets whose source is to be replaced; the bit that kube-proxy uses, too.
const MASQUERADE: &str = "0x4000";

/// The commands that make the table.
pub(crate) fn frame(family: Family, around: &Surroundings) -> String {
    let ip = family.header();
    let table = ruleset::table(family);
    let sets = sets(family, around);
    let strangers = strangers(family, around);
    let loopback = match family {
        Family::V4 => "127.0.0.0/8",
        Family::V6 => "::1",
    };
    let here = format!("fib daddr type local {ip} daddr != {loopback} meta l4proto . th dport");
    let there = format!("{ip} daddr . meta l4proto . th dport");
    let no_endpoint = format!(
        "    ct state new {there} vmap @no-endpoint-services\n    ct state new {here} vmap @no-endpoint-nodeports\n"
    );
    let refuse = "    ct state new jump cluster-ips-check\n";
    format!(
        "table {table} {{
  comment \"packets to Services; made by steadfast, replaced at its next start\"
{sets}
  chain mark-for-masquerade {{
    meta mark set meta mark | {MASQUERADE}
  }}
  chain mark-strangers {{
{strangers}  }}
  chain reject-chain {{
    reject
  }}
  chain cluster-ips-check {{
    {ip} daddr @cluster-ips reject
  }}
  chain services {{
    {there} vmap @service-ips
    {here} vmap @service-nodeports
  }}
  chain firewall {{ type filter hook prerouting priority -110; policy accept;
    ct state new {there} vmap @firewall-ips
  }}
  chain filter-input {{ type filter hook input priority -110; policy accept;
{no_endpoint}  }}
  chain filter-forward {{ type filter hook forward priority -110; policy accept;
{no_endpoint}{refuse}  }}
  chain filter-output {{ type filter hook output priority -110; policy accept;
{no_endpoint}  }}
  chain filter-output-late {{ type filter hook output priority -90; policy accept;
{refuse}  }}
  chain nat-prerouting {{ type nat hook prerouting priority -100; policy accept;
    jump services
  }}
  chain nat-output {{ type nat hook output priority -100; policy accept;
    jump services
  }}
  chain nat-postrouting {{ type nat hook postrouting priority 100; policy accept;
    ct status dnat {ip} saddr . {ip} daddr @hairpins jump mark-for-masquerade
    meta mark & {MASQUERADE} == 0 return
    meta mark set meta mark ^ {MASQUERADE}
    masquerade fully-random
  }}
}}
"
    )
}

fn sets(family: Family, around: &Surroundings) -> String {
    let mut text = String::new();
    for map in Map::all() {
        text += &format!("  {}\n", map.declaration(family));
    }
    let cidrs = cidrs(family, around);
    let elements = match cidrs.is_empty() {
        true => String::new(),
        false => format!("elements = {{ {} }};", cidrs.join(", ")),
    };
    let address = family.address_type();
    text + &format!("  set pods {{ type {address}; flags interval; auto-merge; {elements} }}\n")
}

/// Packets to a Service's own address whose replies would not come back through this machine.
fn strangers(family: Family, around: &Surroundings) -> String {
    if around.masquerade_all {
        return "    jump mark-for-masquerade\n".to_owned();
    }
    if cidrs(family, around).is_empty() {
        return String::new();
    }
    format!("    {} saddr != @pods jump mark-for-masquerade\n", family.header())
}

fn cidrs(family: Family, around: &Surroundings) -> Vec<&str> {
    let of_family = around.pod_cidrs.iter().filter(|(of, _)| *of == family);
    of_family.map(|(_, cidr)| cidr.as_str()).collect()
}
