//! Types of all parts of an expression, before it runs.

use crate::ast::{Expr, Macro, Node, Through};
use crate::signatures::{self, Signature};
use crate::types::Type;
use crate::value::Value;
use crate::{Environment, Problem};
use std::collections::{BTreeMap, BTreeSet};

/// How many problems are told.
const PROBLEMS_MAX: usize = 10;

/// What was found out.
pub(crate) struct Checked {
    pub(crate) of: Type,
    /// By the nodes' numbers.
    pub(crate) types: BTreeMap<usize, Type>,
    /// The variables with dots in their names that are used.
    pub(crate) qualified: BTreeSet<String>,
}

/// Checks an expression.
pub(crate) fn check(expr: &Expr, environment: &Environment) -> Result<Checked, Vec<Problem>> {
    let mut checker = Checker {
        environment,
        scope: Vec::new(),
        types: BTreeMap::new(),
        qualified: BTreeSet::new(),
        problems: Vec::new(),
    };
    let of = checker.infer(expr);
    if checker.problems.is_empty() {
        return Ok(Checked {
            of,
            types: checker.types,
            qualified: checker.qualified,
        });
    }
    checker.problems.truncate(PROBLEMS_MAX);
    Err(checker.problems)
}

struct Checker<'a> {
    environment: &'a Environment,
    scope: Vec<(String, Type)>,
    types: BTreeMap<usize, Type>,
    qualified: BTreeSet<String>,
    problems: Vec<Problem>,
}

impl Checker<'_> {
    fn wrong(&mut self, at: usize, message: String) -> Type {
        self.problems.push(Problem { at, message });
        // What is wrong already is not told of again.
        Type::Dyn
    }

    fn infer(&mut self, expr: &Expr) -> Type {
        let of = self.infer_node(expr);
        self.types.insert(expr.id, of.clone());
        of
    }

    fn infer_node(&mut self, expr: &Expr) -> Type {
        match &expr.of {
            Node::Literal(value) => literal(value),
            Node::Ident(name) => self.ident(expr.at, name),
            Node::Select {
                operand,
                field,
                optional,
            } => {
                if !optional && let Some(of) = self.qualified(operand, field) {
                    return of;
                }
                let of = self.infer(operand);
                let found = self.field(expr.at, &of, field);
                match (found, optional) {
                    (found @ Type::Optional(_), _) => found,
                    (found, true) => Type::Optional(Box::new(found)),
                    (found, false) => found,
                }
            }
            Node::Has { operand, field } => {
                let of = self.infer(operand);
                self.field(expr.at, &of, field);
                Type::Bool
            }
            Node::Call {
                function,
                target,
                arguments,
            } => {
                let target = target.as_ref().map(|target| self.infer(target));
                let arguments: Vec<Type> = arguments.iter().map(|argument| self.infer(argument)).collect();
                self.call(expr.at, function, target, &arguments)
            }
            Node::List(items) => self.list(items),
            Node::Map(entries) => self.map(entries),
            Node::Struct { name, fields } => self.structure(expr.at, name, fields),
            Node::Through(through) => self.through(expr.at, through),
            Node::Bind { name, value, body } => {
                let of = self.infer(value);
                self.within(vec![(name.clone(), of)], |checker| checker.infer(body))
            }
            Node::OptionalMap {
                value,
                name,
                body,
                flat,
            } => {
                let of = match self.infer(value) {
                    Type::Optional(inner) => *inner,
                    Type::Dyn => Type::Dyn,
                    other => self.wrong(value.at, format!("expected an optional value, found '{other}'")),
                };
                let body = self.within(vec![(name.clone(), of)], |checker| checker.infer(body));
                if *flat { body } else { Type::Optional(Box::new(body)) }
            }
        }
    }

    fn list(&mut self, items: &[(Expr, bool)]) -> Type {
        let found: Vec<Type> = items.iter().map(|(item, _)| self.infer(item)).collect();
        let found = found
            .into_iter()
            .zip(items)
            .map(|(of, (_, optional))| match (of, optional) {
                (Type::Optional(inner), true) => *inner,
                (of, _) => of,
            });
        let item = found.reduce(join).unwrap_or(Type::Dyn);
        Type::List(Box::new(item), items.len() as u64)
    }

    fn map(&mut self, entries: &[(Expr, Expr, bool)]) -> Type {
        let mut of: Option<(Type, Type)> = None;
        for (key, value, optional) in entries {
            let (key, mut value) = (self.infer(key), self.infer(value));
            if let (Type::Optional(inner), true) = (&value, optional) {
                value = (**inner).clone();
            }
            of = Some(match of {
                None => (key, value),
                Some((keys, values)) => (join(keys, key), join(values, value)),
            });
        }
        let (key, value) = of.unwrap_or((Type::Dyn, Type::Dyn));
        Type::Map(Box::new(key), Box::new(value), entries.len() as u64)
    }

    /// The type of a variable with a dot in its name.
    fn qualified(&mut self, operand: &Expr, field: &str) -> Option<Type> {
        let Node::Ident(name) = &operand.of else { return None };
        if self.scope.iter().any(|(known, _)| known == name) {
            return None;
        }
        let whole = format!("{name}.{field}");
        let of = self.environment.get(&whole)?.clone();
        self.qualified.insert(whole);
        Some(of)
    }

    fn structure(&mut self, at: usize, name: &str, fields: &[(String, Expr, bool)]) -> Type {
        let known = self.environment.structs.and_then(|structs| structs(name));
        let Some(of) = known else {
            return self.wrong(at, format!("undeclared reference to '{name}' (in container '')"));
        };
        for (field, value, optional) in fields {
            let found = match self.infer(value) {
                Type::Optional(inner) if *optional => *inner,
                found => found,
            };
            // A type without named fields takes all.
            let wanted = if of.fields.is_empty() {
                Some(&Type::Dyn)
            } else {
                of.fields.get(field)
            };
            match wanted {
                None => drop(self.wrong(value.at, format!("undefined field '{field}'"))),
                Some(wanted) if !fits(wanted, &found, &mut BTreeMap::new()) => {
                    let message =
                        format!("expected type of field '{field}' is '{wanted}' but provided type is '{found}'");
                    self.wrong(value.at, message);
                }
                Some(_) => {}
            }
        }
        Type::Object(of)
    }

    fn within<T>(&mut self, names: Vec<(String, Type)>, check: impl FnOnce(&mut Self) -> T) -> T {
        let depth = self.scope.len();
        self.scope.extend(names);
        let found = check(self);
        self.scope.truncate(depth);
        found
    }

    fn ident(&mut self, at: usize, name: &str) -> Type {
        let scoped = self
            .scope
            .iter()
            .rev()
            .find(|(known, _)| known == name)
            .map(|(_, of)| of);
        if let Some(of) = scoped.or_else(|| self.environment.get(name)) {
            return of.clone();
        }
        if matches!(
            name,
            "bool" | "int" | "uint" | "double" | "string" | "bytes" | "list" | "map" | "type" | "null_type"
        ) {
            return Type::Type;
        }
        self.wrong(at, format!("undeclared reference to '{name}' (in container '')"))
    }

    fn field(&mut self, at: usize, of: &Type, field: &str) -> Type {
        match of {
            Type::Dyn => Type::Dyn,
            Type::Object(object) => match object.fields.get(field) {
                Some(of) => of.clone(),
                None => self.wrong(at, format!("undefined field '{field}'")),
            },
            Type::Map(key, value, _) if matches!(**key, Type::String(_) | Type::Dyn) => (**value).clone(),
            Type::Optional(inner) => {
                let found = self.field(at, inner, field);
                Type::Optional(Box::new(found))
            }
            other => self.wrong(at, format!("type '{other}' does not support field selection")),
        }
    }

    fn call(&mut self, at: usize, function: &str, target: Option<Type>, arguments: &[Type]) -> Type {
        let all = signatures::of(function);
        let same_style = |signature: &&Signature| signature.target.is_some() == target.is_some();
        if !all.iter().any(|signature| same_style(&signature)) {
            return self.wrong(at, format!("undeclared reference to '{function}' (in container '')"));
        }
        let given: Vec<&Type> = target.iter().chain(arguments).collect();
        let mut results = all
            .iter()
            .filter(same_style)
            .filter_map(|signature| matched(signature, &given))
            .peekable();
        let Some(first) = results.next() else {
            let shown: Vec<String> = given.iter().map(ToString::to_string).collect();
            let shown = match &target {
                Some(of) => format!("{of}.({})", shown[1..].join(", ")),
                None => format!("({})", shown.join(", ")),
            };
            return self.wrong(
                at,
                format!("found no matching overload for '{function}' applied to '{shown}'"),
            );
        };
        let found = if results.all(|other| alike(&other, &first)) {
            first
        } else {
            Type::Dyn
        };
        sized(found, function, &given)
    }

    fn through(&mut self, at: usize, through: &Through) -> Type {
        let range = self.infer(&through.range);
        let Some(item) = range.item() else {
            return self.wrong(
                at,
                format!(
                    "expression of type '{range}' cannot be range of a comprehension (must be list, map, or dynamic)"
                ),
            );
        };
        let names = match (through.names.as_slice(), &range) {
            ([key, value], Type::List(of, _)) => vec![(key.clone(), Type::Int), (value.clone(), (**of).clone())],
            ([key, value], Type::Map(of, values, _)) => {
                vec![(key.clone(), (**of).clone()), (value.clone(), (**values).clone())]
            }
            ([key, value], _) => vec![(key.clone(), Type::Dyn), (value.clone(), Type::Dyn)],
            (names, _) => names.iter().map(|name| (name.clone(), item.clone())).collect(),
        };
        let body = self.within(names, |checker| {
            if let Some(filter) = &through.filter {
                checker.must_be_bool(filter);
            }
            match through.of {
                Macro::All | Macro::Exists | Macro::ExistsOne | Macro::Filter => {
                    checker.must_be_bool(&through.body);
                    Type::Bool
                }
                _ => checker.infer(&through.body),
            }
        });
        let size = range.size();
        match through.of {
            Macro::All | Macro::Exists | Macro::ExistsOne => Type::Bool,
            Macro::Filter | Macro::SortBy => Type::List(Box::new(item), size),
            Macro::Map | Macro::TransformList => Type::List(Box::new(body), size),
            Macro::TransformMap => {
                let key = match &range {
                    Type::Map(key, _, _) => (**key).clone(),
                    Type::List(_, _) => Type::Int,
                    _ => Type::Dyn,
                };
                Type::Map(Box::new(key), Box::new(body), size)
            }
        }
    }

    fn must_be_bool(&mut self, expr: &Expr) {
        let of = self.infer(expr);
        if !matches!(of, Type::Bool | Type::Dyn) {
            self.wrong(expr.at, format!("expected type 'bool' but found '{of}'"));
        }
    }
}

fn literal(value: &Value) -> Type {
    match value {
        Value::Null => Type::Null,
        Value::Bool(_) => Type::Bool,
        Value::Int(_) => Type::Int,
        Value::Uint(_) => Type::Uint,
        Value::Double(_) => Type::Double,
        Value::String(text) => Type::String(text.chars().count() as u64),
        Value::Bytes(bytes) => Type::Bytes(bytes.len() as u64),
        _ => Type::Dyn,
    }
}

/// The type of what may be of either.
fn join(a: Type, b: Type) -> Type {
    match (a, b) {
        (Type::String(a), Type::String(b)) => Type::String(a.max(b)),
        (a, b) if alike(&a, &b) => a,
        _ => Type::Dyn,
    }
}

/// The same type, whatever the sizes.
pub(crate) fn alike(a: &Type, b: &Type) -> bool {
    match (a, b) {
        (Type::String(_), Type::String(_)) | (Type::Bytes(_), Type::Bytes(_)) => true,
        (Type::List(a, _), Type::List(b, _)) | (Type::Optional(a), Type::Optional(b)) => alike(a, b),
        (Type::Map(a, x, _), Type::Map(b, y, _)) => alike(a, b) && alike(x, y),
        (Type::Object(a), Type::Object(b)) => a.name == b.name,
        (a, b) => a == b,
    }
}

/// The result of a call, if the arguments fit.
fn matched(signature: &Signature, given: &[&Type]) -> Option<Type> {
    let wanted: Vec<&Type> = signature.target.iter().chain(&signature.arguments).collect();
    if wanted.len() != given.len() {
        return None;
    }
    let mut bound = BTreeMap::new();
    let fits = wanted
        .iter()
        .zip(given)
        .all(|(wanted, given)| fits(wanted, given, &mut bound));
    fits.then(|| filled(&signature.result, &bound))
}

fn fits(wanted: &Type, given: &Type, bound: &mut BTreeMap<char, Type>) -> bool {
    if let Type::Parameter(name) = wanted {
        let Some(known) = bound.get(name) else {
            bound.insert(*name, given.clone());
            return true;
        };
        if *known == Type::Dyn || *given == Type::Dyn || alike(known, given) {
            return true;
        }
        let nullable = |of: &Type| {
            matches!(
                of,
                Type::Object(_) | Type::Timestamp | Type::Duration | Type::Opaque(_) | Type::Optional(_) | Type::Null
            )
        };
        // A null is compared with what may be one.
        if *given == Type::Null {
            return nullable(known);
        }
        if *known == Type::Null && nullable(given) {
            bound.insert(*name, given.clone());
            return true;
        }
        return same_shape(known, given);
    }
    match (wanted, given) {
        (_, Type::Dyn) | (Type::Dyn, _) => true,
        (Type::List(a, _), Type::List(b, _)) | (Type::Optional(a), Type::Optional(b)) => fits(a, b, bound),
        (Type::Map(a, x, _), Type::Map(b, y, _)) => fits(a, b, bound) && fits(x, y, bound),
        (a, b) => alike(a, b),
    }
}

/// Lists and maps of which a part is not known.
fn same_shape(a: &Type, b: &Type) -> bool {
    match (a, b) {
        (Type::Dyn, _) | (_, Type::Dyn) => true,
        (Type::List(a, _), Type::List(b, _)) | (Type::Optional(a), Type::Optional(b)) => same_shape(a, b),
        (Type::Map(a, x, _), Type::Map(b, y, _)) => same_shape(a, b) && same_shape(x, y),
        (a, b) => alike(a, b),
    }
}

fn filled(of: &Type, bound: &BTreeMap<char, Type>) -> Type {
    match of {
        Type::Parameter(name) => bound.get(name).cloned().unwrap_or(Type::Dyn),
        Type::List(item, size) => Type::List(Box::new(filled(item, bound)), *size),
        Type::Optional(inner) => Type::Optional(Box::new(filled(inner, bound))),
        Type::Map(key, value, size) => Type::Map(Box::new(filled(key, bound)), Box::new(filled(value, bound)), *size),
        other => other.clone(),
    }
}

/// A result that cannot be larger than what it is made of.
fn sized(of: Type, function: &str, given: &[&Type]) -> Type {
    let total = given.iter().map(|of| of.size()).fold(0, u64::saturating_add);
    let first = given.first().map_or(0, |of| of.size());
    match (of, function) {
        (Type::String(_), "_+_") => Type::String(total),
        (Type::List(item, _), "_+_") => Type::List(item, total),
        (
            Type::String(_),
            "lowerAscii" | "upperAscii" | "trim" | "substring" | "charAt" | "find" | "reverse" | "getScheme"
            | "getHost" | "getHostname" | "getPort" | "getEscapedPath",
        ) => Type::String(first),
        (Type::List(item, _), "slice" | "distinct" | "sort" | "reverse" | "split" | "findAll") => {
            Type::List(item, first)
        }
        (of, _) => of,
    }
}
