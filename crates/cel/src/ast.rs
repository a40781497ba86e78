//! The tree of an expression. Macros are nodes of their own, so that they are checked and run as they are written.

use crate::value::Value;
use std::collections::BTreeSet;

/// A node: its number, its place in the text, and what it is.
#[derive(Clone, Debug)]
pub(crate) struct Expr {
    pub(crate) id: usize,
    pub(crate) at: usize,
    pub(crate) of: Node,
}

#[derive(Clone, Debug)]
pub(crate) enum Node {
    Literal(Value),
    Ident(String),
    /// `operand.field`, or `operand.?field`.
    Select {
        operand: Box<Expr>,
        field: String,
        optional: bool,
    },
    /// `has(operand.field)`.
    Has {
        operand: Box<Expr>,
        field: String,
    },
    Call {
        function: String,
        target: Option<Box<Expr>>,
        arguments: Vec<Expr>,
    },
    /// Items, and whether an absent one is left out.
    List(Vec<(Expr, bool)>),
    /// Entries, and whether an absent one is left out.
    Map(Vec<(Expr, Expr, bool)>),
    /// `Name{field: value}`, and whether an absent value is left out.
    Struct {
        name: String,
        fields: Vec<(String, Expr, bool)>,
    },
    /// `range.all(x, …)` and the like.
    Through(Box<Through>),
    /// `cel.bind(x, value, body)`.
    Bind {
        name: String,
        value: Box<Expr>,
        body: Box<Expr>,
    },
    /// `value.optMap(x, body)`; `flat` for `optFlatMap`.
    OptionalMap {
        value: Box<Expr>,
        name: String,
        body: Box<Expr>,
        flat: bool,
    },
}

/// What a macro makes of the items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Macro {
    All,
    Exists,
    ExistsOne,
    Map,
    Filter,
    TransformList,
    TransformMap,
    SortBy,
}

#[derive(Clone, Debug)]
pub(crate) struct Through {
    pub(crate) of: Macro,
    pub(crate) range: Expr,
    /// One name for the item (or key), or two for index and item (or key and value).
    pub(crate) names: Vec<String>,
    pub(crate) filter: Option<Expr>,
    pub(crate) body: Expr,
}

impl Expr {
    /// The expression as a name with dots, if it is one.
    pub(crate) fn qualified_name(&self) -> Option<String> {
        match &self.of {
            Node::Ident(name) => Some(name.clone()),
            Node::Select {
                operand,
                field,
                optional: false,
            } => Some(format!("{}.{field}", operand.qualified_name()?)),
            _ => None,
        }
    }
}

/// The names that an expression takes from outside.
pub(crate) fn free_names(expr: &Expr, bound: &mut Vec<String>, found: &mut BTreeSet<String>) {
    match &expr.of {
        Node::Literal(_) => {}
        Node::Ident(name) => {
            if !bound.contains(name) {
                found.insert(name.clone());
            }
        }
        Node::Select { operand, .. } | Node::Has { operand, .. } => free_names(operand, bound, found),
        Node::Call { target, arguments, .. } => {
            for expr in target.iter().map(Box::as_ref).chain(arguments) {
                free_names(expr, bound, found);
            }
        }
        Node::List(items) => items.iter().for_each(|(item, _)| free_names(item, bound, found)),
        Node::Map(entries) => {
            for (key, value, _) in entries {
                free_names(key, bound, found);
                free_names(value, bound, found);
            }
        }
        Node::Struct { fields, .. } => fields.iter().for_each(|(_, value, _)| free_names(value, bound, found)),
        Node::Through(through) => {
            free_names(&through.range, bound, found);
            let depth = bound.len();
            bound.extend(through.names.iter().cloned());
            for expr in through.filter.iter().chain([&through.body]) {
                free_names(expr, bound, found);
            }
            bound.truncate(depth);
        }
        Node::Bind { name, value, body } | Node::OptionalMap { name, value, body, .. } => {
            free_names(value, bound, found);
            bound.push(name.clone());
            free_names(body, bound, found);
            bound.pop();
        }
    }
}
