//! The Common Expression Language as Kubernetes uses it: parsing, type checking, a bound on the cost of an expression
//! before it runs, and an evaluator that stops when its budget is spent.
//!
//! ```text
//!  text ──parse──▶ tree ──check against declared types──▶ Program ──evaluate with values and a Budget──▶ Value
//! ```

mod access;
mod ast;
mod check;
mod cost;
mod evaluate;
mod functions;
mod lex;
mod network;
mod parse;
mod quantity;
mod signatures;
mod strings;
mod types;
mod value;

use ast::Expr;
use std::collections::BTreeSet;
use std::sync::Arc;

pub use access::{AUTHORIZER_TYPE, Authorizer, Decision, Inquiry, Question, RESOURCE_CHECK_TYPE};
pub use evaluate::{Budget, EvalError};
pub use types::{ObjectType, Type, escape};
pub use value::{Key, Value};

/// Which names make objects, and of what type.
pub type Structs = fn(&str) -> Option<Arc<ObjectType>>;

/// What names an expression may use, and of what type they are.
///
/// The name of a variable may have dots (`variables.limit`): then it is found before a field of what stands before the
/// dot.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    variables: Vec<(String, Type)>,
    structs: Option<Structs>,
}

impl Environment {
    /// Declares a variable.
    #[must_use]
    pub fn with(mut self, name: &str, of: Type) -> Self {
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.to_owned(), of));
        self
    }

    /// Says which names make objects, as in `Object.spec{replicas: 3}`, and what fields those may have.
    #[must_use]
    pub fn with_structs(mut self, structs: Structs) -> Self {
        self.structs = Some(structs);
        self
    }

    fn get(&self, name: &str) -> Option<&Type> {
        self.variables
            .iter()
            .rev()
            .find(|(known, _)| known == name)
            .map(|(_, of)| of)
    }
}

/// One thing wrong with an expression, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// In characters.
    at: usize,
    message: String,
}

/// Why an expression is not taken; `Display` points at the places.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.shown())]
pub struct CompileError {
    text: String,
    problems: Vec<Problem>,
}

impl CompileError {
    fn shown(&self) -> String {
        let shown: Vec<String> = self.problems.iter().map(|problem| self.point_at(problem)).collect();
        shown.join("\n")
    }

    fn point_at(&self, problem: &Problem) -> String {
        let before: String = self.text.chars().take(problem.at).collect();
        let line = before.matches('\n').count();
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count();
        let source = self.text.split('\n').nth(line).unwrap_or_default();
        let (line, dots) = (line + 1, ".".repeat(column));
        format!(
            "ERROR: <input>:{line}:{}: {}\n | {source}\n | {dots}^",
            column + 1,
            problem.message
        )
    }
}

/// An expression that can be evaluated.
#[derive(Debug)]
pub struct Program {
    expr: Expr,
    of: Type,
    cost: u64,
    names: BTreeSet<String>,
    /// The variables with dots in their names that it uses.
    qualified: BTreeSet<String>,
}

impl Program {
    /// Parses and checks an expression.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn compile(text: &str, environment: &Environment) -> Result<Self, CompileError> {
        let refuse = |problems| CompileError {
            text: text.to_owned(),
            problems,
        };
        let expr = parse::parse(text).map_err(|problem| refuse(vec![problem]))?;
        let checked = check::check(&expr, environment).map_err(refuse)?;
        let cost = cost::bound(&expr, &checked.types);
        let mut names = BTreeSet::new();
        ast::free_names(&expr, &mut Vec::new(), &mut names);
        Ok(Self {
            of: checked.of,
            cost,
            names,
            qualified: checked.qualified,
            expr,
        })
    }

    /// The type of the outcome.
    pub fn result_type(&self) -> &Type {
        &self.of
    }

    /// What the evaluation costs at most, whatever the values are within their declared sizes.
    pub fn cost_bound(&self) -> u64 {
        self.cost
    }

    /// Whether the expression uses a variable.
    pub fn uses(&self, name: &str) -> bool {
        self.names.contains(name) || self.qualified.contains(name)
    }

    /// The variables with dots in their names that the expression uses.
    pub fn qualified_names(&self) -> impl Iterator<Item = &str> {
        self.qualified.iter().map(String::as_str)
    }

    /// Evaluates the expression; `lookup` gives the variables.
    ///
    /// # Errors
    /// When the expression fails, or costs more than the budget has.
    pub fn evaluate(
        &self,
        lookup: &mut dyn FnMut(&str) -> Result<Option<Value>, EvalError>,
        budget: &mut Budget,
    ) -> Result<Value, EvalError> {
        evaluate::run(&self.expr, &self.qualified, lookup, budget)
    }
}

#[cfg(test)]
mod tests;
