//! What an expression costs at most: one for each step, more for steps that go through their values.

use crate::ast::{Expr, Macro, Node};
use crate::types::Type;
use std::collections::BTreeMap;

/// Steps go through this many characters at the price of one.
const CHARACTERS_PER_COST: u64 = 10;

/// The most that an expression costs for values within their types' sizes.
pub(crate) fn bound(expr: &Expr, types: &BTreeMap<usize, Type>) -> u64 {
    let cost = |expr: &Expr| bound(expr, types);
    let size = |expr: &Expr| types.get(&expr.id).map_or(1, Type::size);
    match &expr.of {
        Node::Literal(_) => 0,
        Node::Ident(_) => 1,
        Node::Select { operand, .. } | Node::Has { operand, .. } => cost(operand).saturating_add(1),
        Node::Call {
            function,
            target,
            arguments,
        } => {
            let all = || target.iter().map(Box::as_ref).chain(arguments);
            let parts = all().map(cost).fold(0, u64::saturating_add);
            let sizes = || all().map(size);
            let step = match function.as_str() {
                "_?_:_" => {
                    let branch = arguments.iter().skip(1).map(cost).max().unwrap_or(0);
                    return arguments.first().map_or(0, cost).saturating_add(branch);
                }
                "_==_" | "_!=_" => text(sizes().min().unwrap_or(1)),
                "@in" => arguments.get(1).map_or(1, size),
                "matches" | "find" | "findAll" => {
                    text(sizes().next().unwrap_or(1)).saturating_mul(text(sizes().nth(1).unwrap_or(1)))
                }
                "contains" if target.is_some() => {
                    text(sizes().next().unwrap_or(1)).saturating_mul(text(sizes().nth(1).unwrap_or(1)))
                }
                "startsWith" | "endsWith" => text(sizes().nth(1).unwrap_or(1)),
                "_+_" | "replace" | "split" | "lowerAscii" | "upperAscii" | "substring" | "trim" | "join"
                | "format" | "indexOf" | "lastIndexOf" | "quantity" | "url" | "isURL" | "ip" | "cidr"
                | "isQuantity" | "string" | "bytes" => text(sizes().fold(0, u64::saturating_add)),
                "sum" | "min" | "max" | "isSorted" | "distinct" | "sort" | "flatten" | "reverse" | "slice" => {
                    sizes().next().unwrap_or(1)
                }
                "check" if target.is_some() => crate::access::CHECK_COST,
                name if name.starts_with("sets.") => sizes().fold(1, u64::saturating_mul),
                _ => 1,
            };
            parts.saturating_add(step.max(1))
        }
        Node::List(items) => items.iter().map(|(item, _)| cost(item)).fold(10, u64::saturating_add),
        Node::Map(entries) => {
            let entries = entries
                .iter()
                .map(|(key, value, _)| cost(key).saturating_add(cost(value)));
            entries.fold(30, u64::saturating_add)
        }
        Node::Struct { fields, .. } => {
            let values = fields.iter().map(|(_, value, _)| cost(value));
            values.fold(40, u64::saturating_add)
        }
        Node::Through(through) => {
            let filter = through.filter.as_ref().map_or(0, cost);
            let step = cost(&through.body).saturating_add(filter).saturating_add(2);
            let rounds = match through.of {
                Macro::SortBy => size(&through.range).saturating_mul(2),
                _ => size(&through.range),
            };
            cost(&through.range).saturating_add(step.saturating_mul(rounds))
        }
        Node::Bind { value, body, .. } | Node::OptionalMap { value, body, .. } => {
            cost(value).saturating_add(cost(body)).saturating_add(1)
        }
    }
}

fn text(characters: u64) -> u64 {
    characters.div_ceil(CHARACTERS_PER_COST)
}
