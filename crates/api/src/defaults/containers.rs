//! Defaults of containers and of what they are made of: ports, probes, environment.

use super::{images, items, set_absent, set_zero};
use crate::quantity::{self, Quantity};
use serde_json::Value;

/// Nano-units in a thousandth of a unit, the finest amount that resources are counted in.
const MILLI: i128 = 1_000_000;

pub(super) fn apply(name: &str, value: &mut Value) {
    match name {
        "core.v1.Container" | "core.v1.EphemeralContainer" => container(value),
        "core.v1.Probe" => {
            for (field, default) in [
                ("timeoutSeconds", 1),
                ("periodSeconds", 10),
                ("successThreshold", 1),
                ("failureThreshold", 3),
            ] {
                set_zero(value, field, default);
            }
        }
        "core.v1.HTTPGetAction" => {
            set_zero(value, "path", "/");
            set_zero(value, "scheme", "HTTP");
        }
        "core.v1.GRPCAction" => set_absent(value, "service", ""),
        "core.v1.FileKeySelector" => set_absent(value, "optional", false),
        "core.v1.ObjectFieldSelector" => set_zero(value, "apiVersion", "v1"),
        "core.v1.ResourceFieldSelector" => set_zero(value, "divisor", "0"),
        "core.v1.ResourceRequirements" => {
            for list in ["limits", "requests"] {
                round_up(&mut value[list]);
            }
            // Indexing leaves nulls behind; nothing given is nothing shown.
            if let Value::Object(fields) = value {
                fields.retain(|_, value| !value.is_null());
            }
        }
        _ => {}
    }
}

fn container(container: &mut Value) {
    let policy = images::pull_policy(container["image"].as_str().unwrap_or_default());
    set_zero(container, "imagePullPolicy", policy);
    set_zero(container, "terminationMessagePath", "/dev/termination-log");
    set_zero(container, "terminationMessagePolicy", "File");
    for port in items(container, "ports") {
        set_zero(port, "protocol", "TCP");
    }
}

/// Resources finer than a thousandth are rounded up to it.
fn round_up(list: &mut Value) {
    for amount in list.as_object_mut().into_iter().flat_map(|list| list.values_mut()) {
        let text = amount.as_str().map_or_else(|| amount.to_string(), str::to_owned);
        if let Ok(parsed) = quantity::parse(&text)
            && parsed.nanos % MILLI != 0
        {
            let nanos = (parsed.nanos.div_euclid(MILLI) + 1) * MILLI;
            *amount = Value::String(Quantity { nanos }.to_decimal());
        }
    }
}
