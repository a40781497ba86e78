//! Running an expression.

use crate::ast::{Expr, Macro, Node, Through};
use crate::functions;
use crate::value::{Key, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Why an expression has no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// Something in it failed, in CEL's words.
    #[error("{0}")]
    Failed(String),
    /// The budget is spent.
    #[error("operation cancelled: actual cost limit exceeded")]
    OverBudget,
}

/// What may still be spent.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    left: u64,
}

impl Budget {
    /// A budget of so many steps.
    pub fn new(steps: u64) -> Self {
        Self { left: steps }
    }

    /// What is left of it.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// Spends some.
    ///
    /// # Errors
    /// If that is more than there is.
    pub fn spend(&mut self, steps: u64) -> Result<(), EvalError> {
        match self.left.checked_sub(steps) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => {
                self.left = 0;
                Err(EvalError::OverBudget)
            }
        }
    }
}

pub(crate) type Outcome = Result<Value, EvalError>;

type Lookup<'a> = &'a mut dyn FnMut(&str) -> Result<Option<Value>, EvalError>;

pub(crate) fn failed(why: impl Into<String>) -> EvalError {
    EvalError::Failed(why.into())
}

pub(crate) fn no_overload() -> EvalError {
    failed("no such overload")
}

/// Evaluates an expression.
pub(crate) fn run(expr: &Expr, qualified: &BTreeSet<String>, lookup: Lookup<'_>, budget: &mut Budget) -> Outcome {
    let mut run = Run {
        lookup,
        qualified,
        budget,
        scope: Vec::new(),
    };
    run.value(expr)
}

struct Run<'a> {
    lookup: Lookup<'a>,
    qualified: &'a BTreeSet<String>,
    budget: &'a mut Budget,
    scope: Vec<(String, Value)>,
}

impl Run<'_> {
    fn value(&mut self, expr: &Expr) -> Outcome {
        match &expr.of {
            Node::Literal(value) => Ok(value.clone()),
            Node::Ident(name) => self.ident(name),
            Node::Select {
                operand,
                field,
                optional,
            } => {
                self.budget.spend(1)?;
                if !optional && let Some(value) = self.qualified(operand, field)? {
                    return Ok(value);
                }
                let value = self.value(operand)?;
                select(&value, field, *optional)
            }
            Node::Has { operand, field } => {
                self.budget.spend(1)?;
                let value = self.value(operand)?;
                has(&value, field)
            }
            Node::Call {
                function,
                target,
                arguments,
            } => self.call(function, target.as_deref(), arguments),
            Node::List(items) => self.list(items),
            Node::Map(entries) => self.map(entries),
            Node::Struct { fields, .. } => self.structure(fields),
            Node::Through(through) => self.through(through),
            Node::Bind { name, value, body } => {
                let value = self.value(value)?;
                self.within(&[(name, value)], body)
            }
            Node::OptionalMap {
                value,
                name,
                body,
                flat,
            } => match self.value(value)? {
                Value::Optional(None) => Ok(Value::Optional(None)),
                Value::Optional(Some(inner)) => {
                    let made = self.within(&[(name, (*inner).clone())], body)?;
                    Ok(if *flat {
                        made
                    } else {
                        Value::Optional(Some(Arc::new(made)))
                    })
                }
                _ => Err(no_overload()),
            },
        }
    }

    fn list(&mut self, items: &[(Expr, bool)]) -> Outcome {
        self.budget.spend(10)?;
        let mut list = Vec::with_capacity(items.len());
        for (item, optional) in items {
            list.extend(given(self.value(item)?, *optional));
        }
        Ok(Value::list(list))
    }

    fn map(&mut self, entries: &[(Expr, Expr, bool)]) -> Outcome {
        self.budget.spend(30)?;
        let mut map = BTreeMap::new();
        for (key, value, optional) in entries {
            let key = self.value(key)?.key().ok_or_else(|| failed("unsupported key type"))?;
            if let Some(value) = given(self.value(value)?, *optional) {
                map.insert(key, value);
            }
        }
        Ok(Value::Map(Arc::new(map)))
    }

    fn structure(&mut self, fields: &[(String, Expr, bool)]) -> Outcome {
        self.budget.spend(40)?;
        let mut made = BTreeMap::new();
        for (field, value, optional) in fields {
            if let Some(value) = given(self.value(value)?, *optional) {
                made.insert(Key::String(field.as_str().into()), value);
            }
        }
        Ok(Value::Map(Arc::new(made)))
    }

    /// The value of a variable with a dot in its name.
    fn qualified(&mut self, operand: &Expr, field: &str) -> Result<Option<Value>, EvalError> {
        let Node::Ident(name) = &operand.of else {
            return Ok(None);
        };
        if self.qualified.is_empty() || self.scope.iter().any(|(known, _)| known == name) {
            return Ok(None);
        }
        let whole = format!("{name}.{field}");
        if self.qualified.contains(&whole) {
            return (self.lookup)(&whole);
        }
        Ok(None)
    }

    fn within(&mut self, names: &[(&String, Value)], body: &Expr) -> Outcome {
        let depth = self.scope.len();
        self.scope
            .extend(names.iter().map(|(name, value)| ((*name).clone(), value.clone())));
        let value = self.value(body);
        self.scope.truncate(depth);
        value
    }

    fn ident(&mut self, name: &str) -> Outcome {
        self.budget.spend(1)?;
        if let Some((_, value)) = self.scope.iter().rev().find(|(known, _)| known == name) {
            return Ok(value.clone());
        }
        if let Some(value) = (self.lookup)(name)? {
            return Ok(value);
        }
        match name {
            "bool" | "int" | "uint" | "double" | "string" | "bytes" | "list" | "map" | "type" | "null_type" => {
                Ok(Value::Type(name.into()))
            }
            _ => Err(failed(format!("no such attribute(s): {name}"))),
        }
    }

    fn truth(&mut self, expr: &Expr) -> Result<bool, EvalError> {
        match self.value(expr)? {
            Value::Bool(value) => Ok(value),
            _ => Err(no_overload()),
        }
    }

    fn call(&mut self, function: &str, target: Option<&Expr>, arguments: &[Expr]) -> Outcome {
        match (function, arguments) {
            ("_&&_", [left, right]) => return self.junction(left, right, false),
            ("_||_", [left, right]) => return self.junction(left, right, true),
            ("_?_:_", [condition, yes, no]) => {
                let branch = if self.truth(condition)? { yes } else { no };
                return self.value(branch);
            }
            _ => {}
        }
        let mut values = Vec::with_capacity(arguments.len() + 1);
        for expr in target.into_iter().chain(arguments) {
            values.push(self.value(expr)?);
        }
        self.budget.spend(functions::cost(function, &values))?;
        functions::call(function, target.is_some(), &values)
    }

    /// `&&` and `||`: one side that decides is enough, whatever becomes of the other.
    fn junction(&mut self, left: &Expr, right: &Expr, decisive: bool) -> Outcome {
        let first = self.truth(left);
        if first == Ok(decisive) {
            return Ok(Value::Bool(decisive));
        }
        if first == Err(EvalError::OverBudget) {
            return Err(EvalError::OverBudget);
        }
        let second = self.truth(right);
        match (first, second) {
            (_, Ok(second)) if second == decisive => Ok(Value::Bool(decisive)),
            (_, Err(EvalError::OverBudget)) => Err(EvalError::OverBudget),
            (Err(error), _) | (_, Err(error)) => Err(error),
            _ => Ok(Value::Bool(!decisive)),
        }
    }

    fn through(&mut self, through: &Through) -> Outcome {
        let range = self.value(&through.range)?;
        let pairs: Vec<(Value, Value)> = match &range {
            Value::List(items) => {
                let numbered = items.iter().enumerate();
                numbered
                    .map(|(index, item)| (Value::Int(i64::try_from(index).unwrap_or(i64::MAX)), item.clone()))
                    .collect()
            }
            Value::Map(entries) => entries
                .iter()
                .map(|(key, value)| (key.value(), value.clone()))
                .collect(),
            _ => return Err(no_overload()),
        };
        let is_list = matches!(range, Value::List(_));
        let mut state = State::new(through.of);
        for (key, value) in pairs {
            self.budget.spend(1)?;
            let bindings = match through.names.as_slice() {
                [first, second] => vec![(first, key.clone()), (second, value.clone())],
                [name] => vec![(name, if is_list { value.clone() } else { key.clone() })],
                _ => Vec::new(),
            };
            if let Some(filter) = &through.filter
                && !matches!(self.within(&bindings, filter)?, Value::Bool(true))
            {
                continue;
            }
            let item = if is_list { &value } else { &key };
            let made = self.within(&bindings, &through.body);
            if made == Err(EvalError::OverBudget) {
                return made;
            }
            if state.take(item, &key, made)? {
                break;
            }
        }
        state.end()
    }
}

/// What a macro has come to.
struct State {
    of: Macro,
    error: Option<EvalError>,
    decided: bool,
    count: usize,
    items: Vec<Value>,
    entries: BTreeMap<Key, Value>,
    sorted: Vec<(Value, Value)>,
}

impl State {
    fn new(of: Macro) -> Self {
        Self {
            of,
            error: None,
            decided: false,
            count: 0,
            items: Vec::new(),
            entries: BTreeMap::new(),
            sorted: Vec::new(),
        }
    }

    /// Takes what was made of one item; whether the rest does not matter.
    fn take(&mut self, item: &Value, key: &Value, made: Outcome) -> Result<bool, EvalError> {
        let truth = |made: Outcome| match made? {
            Value::Bool(value) => Ok(value),
            _ => Err(no_overload()),
        };
        match self.of {
            // An item that fails does not matter if another one decides.
            Macro::All | Macro::Exists => match truth(made) {
                Ok(value) if value == (self.of == Macro::Exists) => {
                    self.decided = true;
                    return Ok(true);
                }
                Ok(_) => {}
                Err(error) => drop(self.error.get_or_insert(error)),
            },
            Macro::ExistsOne => self.count += usize::from(truth(made)?),
            Macro::Filter => {
                if truth(made)? {
                    self.items.push(item.clone());
                }
            }
            Macro::Map | Macro::TransformList => self.items.push(made?),
            Macro::TransformMap => {
                let key = key.key().ok_or_else(|| failed("unsupported key type"))?;
                self.entries.insert(key, made?);
            }
            Macro::SortBy => self.sorted.push((made?, item.clone())),
        }
        Ok(false)
    }

    fn end(mut self) -> Outcome {
        match self.of {
            Macro::All | Macro::Exists => match self.error {
                Some(error) if !self.decided => Err(error),
                _ => Ok(Value::Bool(self.decided == (self.of == Macro::Exists))),
            },
            Macro::ExistsOne => Ok(Value::Bool(self.count == 1)),
            Macro::Filter | Macro::Map | Macro::TransformList => Ok(Value::list(self.items)),
            Macro::TransformMap => Ok(Value::Map(Arc::new(self.entries))),
            Macro::SortBy => {
                self.sorted
                    .sort_by(|(a, _), (b, _)| a.order(b).unwrap_or(std::cmp::Ordering::Equal));
                Ok(Value::list(self.sorted.into_iter().map(|(_, item)| item).collect()))
            }
        }
    }
}

/// What an item or entry comes to; one marked as optional may be left out.
fn given(value: Value, optional: bool) -> Option<Value> {
    match (value, optional) {
        (Value::Optional(inner), true) => inner.map(|inner| (*inner).clone()),
        (value, _) => Some(value),
    }
}

fn entry<'a>(value: &'a Value, field: &str) -> Result<Option<&'a Value>, EvalError> {
    match value {
        Value::Map(entries) => Ok(entries.get(&Key::String(field.into()))),
        _ => Err(no_overload()),
    }
}

fn select(value: &Value, field: &str, optional: bool) -> Outcome {
    let wrap = |found: Option<&Value>| Value::Optional(found.cloned().map(Arc::new));
    match value {
        Value::Optional(None) => Ok(Value::Optional(None)),
        Value::Optional(Some(inner)) => Ok(wrap(entry(inner, field)?)),
        value if optional => Ok(wrap(entry(value, field)?)),
        value => {
            let found = entry(value, field)?.cloned();
            found.ok_or_else(|| failed(format!("no such key: {field}")))
        }
    }
}

fn has(value: &Value, field: &str) -> Outcome {
    match value {
        Value::Optional(None) => Ok(Value::Bool(false)),
        Value::Optional(Some(inner)) => has(inner, field),
        value => Ok(Value::Bool(entry(value, field)?.is_some())),
    }
}
