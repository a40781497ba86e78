//! Expressions: whatever compiles also ends, within its budget.

#![no_main]

use cel::{Budget, Environment, Program, Type, Value};
use std::sync::Arc;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let environment = Environment::default()
        .with("s", Type::String(100))
        .with("n", Type::Int)
        .with("l", Type::List(Box::new(Type::String(10)), 10))
        .with("m", Type::Map(Box::new(Type::String(10)), Box::new(Type::Int), 10))
        .with("d", Type::Dyn);
    let program = match Program::compile(text, &environment) {
        Ok(program) => program,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    program.cost_bound();
    let text = |text: &str| Value::String(Arc::from(text));
    let mut lookup = |name: &str| {
        Ok(Some(match name {
            "s" => text("some text: 10.0.0.1/8"),
            "n" => Value::Int(-3),
            "l" => Value::List(Arc::new(vec![text("a"), text("b"), text("")])),
            _ => Value::Null,
        }))
    };
    drop(program.evaluate(&mut lookup, &mut Budget::new(100_000)));
});
