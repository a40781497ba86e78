//! Policies whose rules are ready to be asked.

use super::environment::{Types, environment};
use cel::{Environment, ObjectType, Program, Type};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A rule, or why it is none.
pub(super) type Rule = Result<Program, String>;

/// What is wrong with a rule of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The field, e.g. `spec.validations[0].expression`.
    pub field: String,
    /// Its text.
    pub expression: String,
    /// What the compiler says.
    pub why: String,
}

/// A text with the rule that it is.
#[derive(Debug)]
pub(super) struct Expression {
    pub(super) text: String,
    pub(super) rule: Rule,
}

#[derive(Debug)]
pub(super) struct Validation {
    pub(super) expression: Expression,
    pub(super) message_expression: Option<Expression>,
    pub(super) message: String,
    pub(super) reason: String,
}

/// How a mutation says what it changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PatchType {
    ApplyConfiguration,
    JsonPatch,
}

#[derive(Debug)]
pub(super) struct Mutation {
    pub(super) patch: PatchType,
    pub(super) expression: Expression,
}

/// A policy of either sort.
#[derive(Debug)]
pub struct Policy {
    pub(super) variables: BTreeMap<String, Expression>,
    pub(super) conditions: Vec<Expression>,
    pub(super) validations: Vec<Validation>,
    /// With their keys.
    pub(super) annotations: Vec<(String, Expression)>,
    pub(super) mutations: Vec<Mutation>,
    /// Whether a rule that fails refuses the write.
    pub(super) fails: bool,
}

impl Policy {
    /// Compiles the `spec` of a policy.
    pub fn compile(spec: &Value) -> Self {
        compile(spec, Type::Dyn, Type::Dyn).0
    }

    /// Whether a rule that fails, or cannot be asked, refuses the write.
    pub fn fails_closed(&self) -> bool {
        self.fails
    }
}

/// What is wrong with the rules of a policy's `spec`.
pub(crate) fn problems(spec: &Value) -> Vec<Problem> {
    compile(spec, Type::Dyn, Type::Dyn).1
}

/// Compiles a policy for objects and parameters of these types.
pub(super) fn compile(spec: &Value, object: Type, params: Type) -> (Policy, Vec<Problem>) {
    let types = Types {
        object,
        params: (!spec["paramKind"].is_null()).then_some(params),
    };
    let mut compiler = Compiler {
        environment: environment(&types).with_structs(structs),
        problems: Vec::new(),
    };
    // Conditions do not know the variables.
    let conditions = compiler.list(&spec["matchConditions"], "spec.matchConditions", "expression", BOOL);
    let variables = compiler.variables(&spec["variables"]);
    let validations = items(&spec["validations"]).enumerate().map(|(index, validation)| {
        let path = format!("spec.validations[{index}]");
        let text = |field: &str| validation[field].as_str().unwrap_or_default().to_owned();
        let expression = compiler.one(validation, &path, "expression", BOOL);
        let message = !text("messageExpression").trim().is_empty();
        Validation {
            expression,
            message_expression: message.then(|| compiler.one(validation, &path, "messageExpression", TEXT)),
            message: text("message"),
            reason: text("reason"),
        }
    });
    let validations = validations.collect();
    let annotations = items(&spec["auditAnnotations"]).enumerate().map(|(index, annotation)| {
        let path = format!("spec.auditAnnotations[{index}]");
        let key = annotation["key"].as_str().unwrap_or_default().to_owned();
        (key, compiler.one(annotation, &path, "valueExpression", TEXT_OR_NULL))
    });
    let annotations = annotations.collect();
    let mutations = items(&spec["mutations"]).enumerate().map(|(index, mutation)| {
        let (patch, field, wanted) = match mutation["patchType"].as_str() {
            Some("JSONPatch") => (PatchType::JsonPatch, "jsonPatch", PATCHES),
            _ => (PatchType::ApplyConfiguration, "applyConfiguration", OBJECT),
        };
        let path = format!("spec.mutations[{index}].{field}");
        Mutation {
            patch,
            expression: compiler.one(&mutation[field], &path, "expression", wanted),
        }
    });
    let policy = Policy {
        mutations: mutations.collect(),
        conditions,
        variables,
        validations,
        annotations,
        fails: spec["failurePolicy"] != "Ignore",
    };
    (policy, compiler.problems)
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// What a rule must come to, and how that is told; nothing if anything will do.
type Wanted = (fn(&Type) -> bool, &'static str);

const ANYTHING: Wanted = (|_| true, "");
const BOOL: Wanted = (|of| matches!(of, Type::Bool), "must evaluate to bool");
const TEXT: Wanted = (|of| matches!(of, Type::String(_)), "must evaluate to string");
const TEXT_OR_NULL: Wanted = (
    |of| matches!(of, Type::String(_) | Type::Null),
    "must evaluate to one of [string null_type]",
);
const OBJECT: Wanted = (
    |of| matches!(of, Type::Object(of) if of.name == "Object"),
    "must evaluate to Object",
);
const PATCHES: Wanted = (
    |of| match of {
        Type::List(item, _) => match &**item {
            Type::Object(of) => of.name == "JSONPatch",
            item => *item == Type::Dyn,
        },
        _ => false,
    },
    "must evaluate to list(JSONPatch)",
);

/// The objects that mutations make: `Object` and its parts, which take any fields, and `JSONPatch`.
fn structs(name: &str) -> Option<Arc<ObjectType>> {
    let fields: &[(&str, Type)] = match name {
        "JSONPatch" => &[
            ("op", Type::TEXT),
            ("path", Type::TEXT),
            ("from", Type::TEXT),
            ("value", Type::Dyn),
        ],
        "Object" => &[],
        name if name.starts_with("Object.") => &[],
        _ => return None,
    };
    Some(Arc::new(ObjectType {
        name: name.to_owned(),
        fields: fields
            .iter()
            .map(|(name, of)| ((*name).to_owned(), of.clone()))
            .collect(),
    }))
}

struct Compiler {
    environment: Environment,
    problems: Vec<Problem>,
}

impl Compiler {
    fn list(&mut self, list: &Value, path: &str, field: &str, wanted: Wanted) -> Vec<Expression> {
        let mut found = Vec::new();
        for (index, item) in items(list).enumerate() {
            found.push(self.one(item, &format!("{path}[{index}]"), field, wanted));
        }
        found
    }

    fn one(&mut self, of: &Value, path: &str, field: &str, (fits, otherwise): Wanted) -> Expression {
        let text = of[field].as_str().unwrap_or_default().trim().to_owned();
        let compiled = Program::compile(&text, &self.environment);
        let rule = compiled.map_err(|error| format!("compilation failed: {error}"));
        let rule = rule.and_then(|program| {
            if fits(program.result_type()) || *program.result_type() == Type::Dyn {
                Ok(program)
            } else {
                Err(otherwise.to_owned())
            }
        });
        if let Err(why) = &rule
            && !text.is_empty()
        {
            self.problems.push(Problem {
                field: format!("{path}.{field}"),
                expression: of[field].as_str().unwrap_or_default().to_owned(),
                why: why.clone(),
            });
        }
        Expression { text, rule }
    }

    /// Each variable knows those before it.
    fn variables(&mut self, list: &Value) -> BTreeMap<String, Expression> {
        let mut known = BTreeMap::new();
        let mut fields = BTreeMap::new();
        self.declare(&fields);
        for (index, variable) in items(list).enumerate() {
            let name = variable["name"].as_str().unwrap_or_default().to_owned();
            let made = self.one(variable, &format!("spec.variables[{index}]"), "expression", ANYTHING);
            let of = made
                .rule
                .as_ref()
                .map_or(Type::Dyn, |program| program.result_type().clone());
            self.environment = std::mem::take(&mut self.environment).with(&format!("variables.{name}"), of.clone());
            fields.insert(name.clone(), of);
            self.declare(&fields);
            known.insert(name, made);
        }
        known
    }

    fn declare(&mut self, fields: &BTreeMap<String, Type>) {
        let of = Type::Object(Arc::new(ObjectType {
            name: "kubernetes.variables".to_owned(),
            fields: fields.clone(),
        }));
        self.environment = std::mem::take(&mut self.environment).with("variables", of);
    }
}
