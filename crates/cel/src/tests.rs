use super::*;
use serde_json::{Value as Json, json};
use std::sync::Arc;

fn environment() -> Environment {
    let object = ObjectType {
        name: "object".to_owned(),
        fields: [
            ("x".to_owned(), Type::Int),
            ("name".to_owned(), Type::TEXT),
            ("list".to_owned(), Type::list(Type::Int)),
            ("map".to_owned(), Type::map(Type::TEXT, Type::TEXT)),
        ]
        .into(),
    };
    Environment::default()
        .with("self", Type::Object(Arc::new(object)))
        .with("any", Type::Dyn)
}

fn value() -> Json {
    json!({"x": 2, "name": "web-0", "list": [1, 2, 3], "map": {"a": "1", "b": "2"}})
}

fn run(text: &str) -> Result<Value, String> {
    let environment = environment();
    let program = Program::compile(text, &environment).map_err(|error| error.to_string())?;
    let of = environment.get("self").unwrap().clone();
    let mut lookup = |name: &str| {
        Ok(match name {
            "self" => Some(Value::from_json(&value(), &of)),
            "any" => Some(Value::from_json(&json!({"a": [1, {"b": true}]}), &Type::Dyn)),
            _ => None,
        })
    };
    let mut budget = Budget::new(100_000);
    program
        .evaluate(&mut lookup, &mut budget)
        .map_err(|error| error.to_string())
}

#[test]
fn what_holds() {
    for text in [
        "1 + 2 * 3 == 7 && !(1 > 2)",
        "self.x == 2 && self.x in self.list",
        "self.name.startsWith('web') && self.name.matches('^web-[0-9]+$')",
        "size(self.list) == 3 && self.list.size() == 3",
        "self.list.all(i, i > 0) && self.list.exists(i, i == 2) && self.list.exists_one(i, i > 2)",
        "self.list.map(i, i * 2) == [2, 4, 6]",
        "self.list.map(i, i > 1, i * 2) == [4, 6]",
        "self.list.filter(i, i % 2 == 1) == [1, 3]",
        "self.map.all(k, self.map[k].size() == 1) && 'a' in self.map",
        "self.list.all(i, v, i < v)",
        "has(self.name) && !has(any.b) && has(any.a)",
        "any.a[1].b",
        "[1, 2, 3][0] == 1 && {'a': 1}['a'] == 1 && {'a': 1}.a == 1",
        "true || any.missing == 1",
        "any.missing == 1 || true",
        "self.x > 1 ? true : any.missing",
        "duration('1h30m') > duration('89m') && timestamp('2026-01-01T00:00:00Z').getFullYear() == 2026",
        "timestamp('2026-01-02T00:00:00Z') - timestamp('2026-01-01T00:00:00Z') == duration('24h')",
        "quantity('1Gi').isGreaterThan(quantity('1000M')) && isQuantity('1.5') && !isQuantity('x')",
        "quantity('500m').add(quantity('1500m')).asInteger() == 2",
        "url('https://a.b:80/c?d=e').getHostname() == 'a.b' && isURL('https://a') && !isURL('a b')",
        "ip('10.0.0.1').family() == 4 && cidr('10.0.0.0/8').containsIP('10.1.2.3') && !isIP('x')",
        "'a,b'.split(',') == ['a', 'b'] && ['a', 'b'].join('-') == 'a-b' && 'abc'.substring(1, 2) == 'b'",
        "'%s is %d'.format(['x', 3]) == 'x is 3'",
        "sets.contains([1, 2], [2]) && sets.equivalent([1, 1], [1])",
        "[3, 1, 2].max() == 3 && [1, 2].isSorted() && [1, 2].sum() == 3",
        "optional.of(1).orValue(2) == 1 && any.?missing.orValue(7) == 7 && any.?a.hasValue()",
        "cel.bind(y, self.x + 1, y * y) == 9",
        "type(1) == int && string(1) == '1' && int('2') == 2 && double(1) == 1.0",
        "semver('1.2.3').isLessThan(semver('1.10.0')) && isSemver('1.0.0-rc.1')",
        "'a' < 'b' && 1 < 2.5 && b'a' != b'b' && r'\\d' == '\\\\d' && 0x10 == 16 && 1u + 2u == 3u",
        "!format.dns1123Label().validate('a-b').hasValue()",
    ] {
        assert_eq!(run(text), Ok(Value::Bool(true)), "{text}");
    }
}

#[test]
fn what_fails_when_it_runs() {
    for (text, why) in [
        ("any.missing == 1", "no such key: missing"),
        ("1 / 0 == 1", "division by zero"),
        ("self.list[7] == 1", "index out of bounds: 7"),
        ("9223372036854775807 + 1 == 0", "integer overflow"),
        ("any.a + 1 == 2", "no such overload"),
    ] {
        assert_eq!(run(text), Err(why.to_owned()), "{text}");
    }
}

#[test]
fn what_is_refused_before_it_runs() {
    for (text, why) in [
        (
            "self.z == 100",
            "ERROR: <input>:1:5: undefined field 'z'\n | self.z == 100\n | ....^",
        ),
        (
            "self.x > '1'",
            "ERROR: <input>:1:8: found no matching overload for '_>_' applied to '(int, string)'\n | self.x > '1'\n | .......^",
        ),
        (
            "other == 1",
            "ERROR: <input>:1:1: undeclared reference to 'other' (in container '')\n | other == 1\n | ^",
        ),
        (
            "self.x.all(i, true)",
            "ERROR: <input>:1:8: expression of type 'int' cannot be range of a comprehension (must be list, map, or \
             dynamic)\n | self.x.all(i, true)\n | .......^",
        ),
    ] {
        assert_eq!(run(text), Err(why.to_owned()), "{text}");
    }
    for text in ["self.x ==", "(1", "1 1", "'abc", "a b", "@", "self.x = 1"] {
        assert!(run(text).unwrap_err().contains("Syntax error"), "{text}");
    }
}

#[test]
fn a_budget_ends_what_takes_too_long() {
    let thousand = "lists.range(1000)";
    let text = format!("{thousand}.all(a, {thousand}.all(b, {thousand}.all(c, a + b + c >= 0)))");
    assert_eq!(run(&text), Err(EvalError::OverBudget.to_string()));
}

#[test]
fn costs_grow_with_sizes() {
    let cost = |text: &str| Program::compile(text, &environment()).unwrap().cost_bound();
    assert!(cost("self.x == 1") < 10);
    assert!(cost("self.list.all(i, self.list.all(j, i == j))") > 1_000_000_000);
}

#[test]
fn names_are_escaped() {
    assert_eq!(
        escape("a.b-c/d__e").as_deref(),
        Some("a__dot__b__dash__c__slash__d__underscores__e")
    );
    assert_eq!(escape("namespace").as_deref(), Some("__namespace__"));
    assert_eq!(escape("1a"), None);
}

proptest::proptest! {
    #[test]
    fn no_text_panics(text in "[a-z0-9 .()\\[\\]{}+*/<>=!&|?:,'\"-]{0,40}") {
        let _outcome = run(&text);
    }
}

#[derive(Debug)]
struct Named(&'static str);

impl Authorizer for Named {
    fn decide(&self, question: &Question) -> Decision {
        let asked = [
            &*question.verb,
            &*question.group,
            &*question.resource,
            &*question.namespace,
        ];
        Decision {
            allowed: asked.join("/") == self.0,
            reason: "because".to_owned(),
            error: String::new(),
        }
    }
}

#[test]
fn names_with_dots_objects_and_questions() {
    let structs: Structs = |name| {
        let of = ObjectType {
            name: name.to_owned(),
            fields: [].into(),
        };
        name.starts_with("Object").then(|| Arc::new(of))
    };
    let environment = Environment::default()
        .with("variables.limit", Type::Int)
        .with("variables", Type::Dyn)
        .with("authorizer", AUTHORIZER_TYPE)
        .with("authorizer.requestResource", RESOURCE_CHECK_TYPE)
        .with_structs(structs);
    let check = |text: &str| {
        let program = Program::compile(text, &environment).map_err(|error| error.to_string())?;
        let asked = Arc::new(Named("get//pods/default"));
        let mut lookup = |name: &str| {
            Ok(match name {
                "variables.limit" => Some(Value::Int(3)),
                "authorizer" => Some(Value::Inquiry(Arc::new(Inquiry::authorizer(asked.clone())))),
                "authorizer.requestResource" => {
                    let question = Question {
                        resource: "pods".to_owned(),
                        ..Question::default()
                    };
                    Some(Value::Inquiry(Arc::new(Inquiry::resource(asked.clone(), question))))
                }
                _ => None,
            })
        };
        let made = program.evaluate(&mut lookup, &mut Budget::new(1_000_000));
        made.map_err(|error| error.to_string())
    };
    for text in [
        "variables.limit + 1 == 4",
        "[{'limit': 5}].all(variables, variables.limit == 5)",
        "dyn(Object{spec: Object.spec{replicas: variables.limit, ?none: optional.none()}}).spec.size() == 1",
        "authorizer.group('').resource('pods').namespace('default').check('get').allowed()",
        "!authorizer.group('').resource('pods').check('get').allowed()",
        "authorizer.requestResource.namespace('default').check('get').reason() == 'because'",
        "!authorizer.path('/healthz').check('get').errored()",
    ] {
        assert_eq!(check(text), Ok(Value::Bool(true)), "{text}");
    }
    assert!(
        check("Nothing{a: 1}")
            .unwrap_err()
            .contains("undeclared reference to 'Nothing'")
    );
    assert!(
        check("authorizer.resource('x')")
            .unwrap_err()
            .contains("no matching overload")
    );
}
