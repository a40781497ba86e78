//! What the rules of a policy say of a write.

use super::compile::{Expression, Policy, Validation};
use super::environment::Subject;
use cel::{Budget, EvalError, Value};
use std::collections::BTreeMap;

/// What one rule may cost.
const RULE_BUDGET: u64 = 1_000_000;
/// What all rules of a policy may cost for one binding.
const POLICY_BUDGET: u64 = 10_000_000;
/// What the conditions of a policy may cost.
const CONDITIONS_BUDGET: u64 = POLICY_BUDGET / 4;
/// How long a message may be that a rule makes.
const MESSAGE_BYTES_MAX: usize = 5 * 1024;
/// How long the value of an annotation may be.
const ANNOTATION_BYTES_MAX: usize = 10 * 1024;

/// A rule that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// Which of the policy's validations it is.
    pub index: usize,
    /// Why.
    pub message: String,
    /// The reason of the answer; empty for the usual one.
    pub reason: String,
}

/// What a policy says of a write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judgement {
    /// The rules that do not hold.
    pub denials: Vec<Denial>,
    /// Keys and values for the audit log.
    pub annotations: Vec<(String, String)>,
    /// What failed of those, where the policy does not take that lightly.
    pub annotation_errors: Vec<String>,
}

impl Policy {
    /// Asks the rules about a write; `params` is the parameter object, if the policy has one.
    pub fn judge(&self, subject: &Subject, params: Option<&serde_json::Value>) -> Judgement {
        match Asking::of_conditions(self, subject, params).conditions() {
            Ok(true) => {}
            Ok(false) => return Judgement::default(),
            Err(message) => return self.failed(message),
        }
        let mut asking = Asking::of_rules(self, subject, params);
        let mut found = Judgement::default();
        for (index, validation) in self.validations.iter().enumerate() {
            found.denials.extend(asking.validate(index, validation));
        }
        for (key, expression) in &self.annotations {
            match asking.annotation(expression) {
                Ok(Some(value)) => found.annotations.push((key.clone(), value)),
                Ok(None) => {}
                Err(error) if self.fails => found.annotation_errors.push(error),
                Err(_) => {}
            }
        }
        found
    }

    /// Whether the conditions hold.
    ///
    /// # Errors
    /// Why that cannot be told.
    pub fn applies(&self, subject: &Subject, params: Option<&serde_json::Value>) -> Result<bool, String> {
        Asking::of_conditions(self, subject, params).conditions()
    }

    fn failed(&self, message: String) -> Judgement {
        let denial = Denial {
            index: 0,
            message,
            reason: String::new(),
        };
        Judgement {
            denials: if self.fails { vec![denial] } else { Vec::new() },
            ..Judgement::default()
        }
    }
}

/// The rules of one policy being asked about one write.
pub(super) struct Asking<'a> {
    policy: &'a Policy,
    subject: &'a Subject,
    params: Value,
    /// The variables that have been needed so far.
    variables: BTreeMap<String, Result<Value, EvalError>>,
    budget: Budget,
}

impl<'a> Asking<'a> {
    /// For the conditions, which have a budget of their own.
    pub(super) fn of_conditions(policy: &'a Policy, subject: &'a Subject, params: Option<&serde_json::Value>) -> Self {
        Self::new(policy, subject, params, CONDITIONS_BUDGET)
    }

    /// For all other rules.
    pub(super) fn of_rules(policy: &'a Policy, subject: &'a Subject, params: Option<&serde_json::Value>) -> Self {
        Self::new(policy, subject, params, POLICY_BUDGET)
    }

    fn new(policy: &'a Policy, subject: &'a Subject, params: Option<&serde_json::Value>, budget: u64) -> Self {
        let params = params.map_or(Value::Null, |params| Value::from_json(params, &cel::Type::Dyn));
        Self {
            policy,
            subject,
            params,
            variables: BTreeMap::new(),
            budget: Budget::new(budget),
        }
    }

    /// Whether the policy's conditions hold: one that does not is enough, whatever becomes of the others.
    pub(super) fn conditions(&mut self) -> Result<bool, String> {
        let mut errors = Vec::new();
        for condition in &self.policy.conditions {
            match self.value(condition) {
                Ok(Value::Bool(false)) => return Ok(false),
                Ok(_) => {}
                Err(error) => errors.push(error),
            }
        }
        match errors.as_slice() {
            [] => Ok(true),
            [one] => Err(one.clone()),
            many => Err(format!("[{}]", many.join(", "))),
        }
    }

    fn validate(&mut self, index: usize, validation: &Validation) -> Option<Denial> {
        let denial = |message: String, reason: &str| Denial {
            index,
            message,
            reason: reason.to_owned(),
        };
        match self.value(&validation.expression) {
            Ok(Value::Bool(true)) => None,
            Ok(_) => {
                let reason = match validation.reason.as_str() {
                    "" => "Invalid",
                    reason => reason,
                };
                Some(denial(self.message(validation), reason))
            }
            Err(error) => self.policy.fails.then(|| denial(error, "")),
        }
    }

    fn message(&mut self, validation: &Validation) -> String {
        if let Some(expression) = &validation.message_expression
            && let Ok(Value::String(text)) = self.value(expression)
        {
            let text = text.trim();
            if !text.is_empty() && !text.contains('\n') && text.len() <= MESSAGE_BYTES_MAX {
                return text.to_owned();
            }
        }
        match validation.message.trim() {
            "" => format!("failed expression: {}", validation.expression.text),
            message => message.to_owned(),
        }
    }

    fn annotation(&mut self, expression: &Expression) -> Result<Option<String>, String> {
        match self.value(expression)? {
            Value::String(text) => {
                let text = text.trim();
                let mut end = text.len().min(ANNOTATION_BYTES_MAX);
                while !text.is_char_boundary(end) {
                    end -= 1;
                }
                Ok((!text.is_empty()).then(|| text[..end].to_owned()))
            }
            Value::Null => Ok(None),
            other => Err(format!(
                "valueExpression '{}' resulted in unsupported return type: {}. Return type must be either string or null.",
                expression.text,
                other.type_name()
            )),
        }
    }

    /// The value of a rule; upstream's words for why it has none.
    pub(super) fn value(&mut self, expression: &Expression) -> Result<Value, String> {
        let text = &expression.text;
        let program = expression
            .rule
            .as_ref()
            .map_err(|why| format!("expression '{text}' resulted in error: {why}"))?;
        if self.budget.left() == 0 {
            return Err(
                "validation failed due to running out of cost budget, no further validation rules will be run"
                    .to_owned(),
            );
        }
        self.run(program)
            .map_err(|error| format!("expression '{text}' resulted in error: {error}"))
    }

    fn run(&mut self, program: &cel::Program) -> Result<Value, EvalError> {
        let allowed = RULE_BUDGET.min(self.budget.left());
        let mut own = Budget::new(allowed);
        let made = program.evaluate(&mut |name| self.lookup(name), &mut own);
        let spent = allowed - own.left();
        self.budget.spend(spent.min(self.budget.left()))?;
        made
    }

    fn lookup(&mut self, name: &str) -> Result<Option<Value>, EvalError> {
        if let Some(value) = self.subject.value(name) {
            return Ok(Some(value.clone()));
        }
        match name {
            "params" => return Ok(Some(self.params.clone())),
            // Only asked for to see whether there is such a variable.
            "variables" => {
                let names = self.policy.variables.keys();
                return Ok(Some(Value::object(names.map(|name| (name.clone(), Value::Null)))));
            }
            _ => {}
        }
        let Some(variable) = name.strip_prefix("variables.") else {
            return Ok(None);
        };
        if let Some(known) = self.variables.get(variable) {
            return known.clone().map(Some);
        }
        let Some(expression) = self.policy.variables.get(variable) else {
            return Ok(None);
        };
        let made = match &expression.rule {
            Ok(program) => self.run(program).map_err(|error| match error {
                EvalError::Failed(why) => {
                    EvalError::Failed(format!("composited variable {variable:?} fails to evaluate: {why}"))
                }
                error => error,
            }),
            Err(why) => Err(EvalError::Failed(format!(
                "composited variable {variable:?} fails to compile: {why}"
            ))),
        };
        self.variables.insert(variable.to_owned(), made.clone());
        made.map(Some)
    }
}
