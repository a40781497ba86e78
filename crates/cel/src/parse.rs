//! From words to a tree, by the precedence of CEL's grammar.

use crate::Problem;
use crate::ast::{Expr, Macro, Node, Through};
use crate::lex::{Token, words};
use crate::value::Value;
use std::sync::Arc;

/// How deep expressions may lie in one another.
const DEPTH_MAX: usize = 64;

/// Binary operators by precedence, the loosest first, with their functions.
const BINARY: [&[(&str, &str)]; 5] = [
    &[("||", "_||_")],
    &[("&&", "_&&_")],
    &[
        ("==", "_==_"),
        ("!=", "_!=_"),
        ("<=", "_<=_"),
        (">=", "_>=_"),
        ("<", "_<_"),
        (">", "_>_"),
    ],
    &[("+", "_+_"), ("-", "_-_")],
    &[("*", "_*_"), ("/", "_/_"), ("%", "_%_")],
];

/// Parses a whole expression.
pub(crate) fn parse(text: &str) -> Result<Expr, Problem> {
    let mut parser = Parser {
        words: words(text)?,
        at: 0,
        count: 0,
        depth: 0,
    };
    let expr = parser.ternary()?;
    match parser.peek() {
        Token::End => Ok(expr),
        _ => Err(parser.unexpected("<EOF>")),
    }
}

struct Parser {
    words: Vec<(Token, usize)>,
    at: usize,
    count: usize,
    depth: usize,
}

impl Parser {
    fn peek(&self) -> &Token {
        &self.words[self.at].0
    }

    fn place(&self) -> usize {
        self.words[self.at].1
    }

    fn is(&self, sign: &str) -> bool {
        matches!(self.peek(), Token::Sign(found) if *found == sign)
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        if self.at + 1 < self.words.len() {
            self.at += 1;
        }
        token
    }

    fn take(&mut self, sign: &str) -> bool {
        let found = self.is(sign);
        if found {
            self.next();
        }
        found
    }

    fn need(&mut self, sign: &str) -> Result<(), Problem> {
        if self.take(sign) {
            return Ok(());
        }
        Err(self.unexpected(&format!("'{sign}'")))
    }

    fn unexpected(&self, expecting: &str) -> Problem {
        let found = match self.peek() {
            Token::End => "<EOF>".to_owned(),
            Token::Sign(sign) => (*sign).to_owned(),
            Token::Ident(name) | Token::Quoted(name) => name.clone(),
            Token::Text(text) => format!("{text:?}"),
            other => format!("{other:?}"),
        };
        Problem {
            at: self.place(),
            message: format!("Syntax error: mismatched input '{found}' expecting {expecting}"),
        }
    }

    fn node(&mut self, at: usize, of: Node) -> Expr {
        self.count += 1;
        Expr { id: self.count, at, of }
    }

    fn call(&mut self, at: usize, function: &str, arguments: Vec<Expr>) -> Expr {
        let function = function.to_owned();
        self.node(
            at,
            Node::Call {
                function,
                target: None,
                arguments,
            },
        )
    }

    fn deeper<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T, Problem>) -> Result<T, Problem> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(Problem {
                at: self.place(),
                message: "expression recursion limit exceeded".to_owned(),
            });
        }
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    fn ternary(&mut self) -> Result<Expr, Problem> {
        self.deeper(|parser| {
            let condition = parser.binary(0)?;
            let at = parser.place();
            if !parser.take("?") {
                return Ok(condition);
            }
            let yes = parser.binary(0)?;
            parser.need(":")?;
            let no = parser.ternary()?;
            Ok(parser.call(at, "_?_:_", vec![condition, yes, no]))
        })
    }

    fn binary(&mut self, level: usize) -> Result<Expr, Problem> {
        let Some(operators) = BINARY.get(level) else {
            return self.unary();
        };
        let mut left = self.binary(level + 1)?;
        loop {
            let at = self.place();
            let found = match self.peek() {
                Token::Sign(sign) => operators
                    .iter()
                    .find(|(operator, _)| operator == sign)
                    .map(|(_, name)| *name),
                Token::Ident(word) if word == "in" && level == 2 => Some("@in"),
                _ => None,
            };
            let Some(function) = found else { return Ok(left) };
            self.next();
            let right = self.binary(level + 1)?;
            left = self.call(at, function, vec![left, right]);
        }
    }

    fn unary(&mut self) -> Result<Expr, Problem> {
        let at = self.place();
        if self.take("!") {
            let operand = self.deeper(Self::unary)?;
            return Ok(self.call(at, "!_", vec![operand]));
        }
        if self.take("-") {
            match self.peek().clone() {
                Token::Int(number) => {
                    self.next();
                    let literal = self.node(at, Node::Literal(Value::Int(-number)));
                    return self.members(literal);
                }
                Token::IntMinimum => {
                    self.next();
                    let literal = self.node(at, Node::Literal(Value::Int(i64::MIN)));
                    return self.members(literal);
                }
                Token::Double(number) => {
                    self.next();
                    let literal = self.node(at, Node::Literal(Value::Double(-number)));
                    return self.members(literal);
                }
                _ => {}
            }
            let operand = self.deeper(Self::unary)?;
            return Ok(self.call(at, "-_", vec![operand]));
        }
        let primary = self.primary()?;
        self.members(primary)
    }

    /// What follows a value: `.field`, `.method(…)`, `[index]`.
    fn members(&mut self, mut expr: Expr) -> Result<Expr, Problem> {
        loop {
            let at = self.place();
            if self.take(".") {
                let optional = self.take("?");
                let name_at = self.place();
                let (Token::Ident(name) | Token::Quoted(name)) = self.peek().clone() else {
                    return Err(self.unexpected("IDENTIFIER"));
                };
                self.next();
                if !optional && self.take("(") {
                    let arguments = self.list(")")?;
                    expr = self.method(name_at, expr, &name, arguments)?;
                } else {
                    let operand = Box::new(expr);
                    expr = self.node(
                        at,
                        Node::Select {
                            operand,
                            field: name,
                            optional,
                        },
                    );
                }
            } else if self.take("[") {
                let function = if self.take("?") { "_[?_]" } else { "_[_]" };
                let index = self.ternary()?;
                self.need("]")?;
                expr = self.call(at, function, vec![expr, index]);
            } else if *self.peek() == Token::Sign("{")
                && let Some(name) = expr.qualified_name()
            {
                self.next();
                expr = self.struct_literal(expr.at, name)?;
            } else {
                return Ok(expr);
            }
        }
    }

    fn struct_literal(&mut self, at: usize, name: String) -> Result<Expr, Problem> {
        let mut fields = Vec::new();
        while !self.take("}") {
            let optional = self.take("?");
            let (Token::Ident(field) | Token::Quoted(field)) = self.peek().clone() else {
                return Err(self.unexpected("IDENTIFIER"));
            };
            self.next();
            self.need(":")?;
            fields.push((field, self.ternary()?, optional));
            if !self.take(",") {
                self.need("}")?;
                break;
            }
        }
        Ok(self.node(at, Node::Struct { name, fields }))
    }

    fn list(&mut self, end: &str) -> Result<Vec<Expr>, Problem> {
        let mut items = Vec::new();
        while !self.take(end) {
            items.push(self.ternary()?);
            if !self.take(",") {
                self.need(end)?;
                break;
            }
        }
        Ok(items)
    }

    fn primary(&mut self) -> Result<Expr, Problem> {
        let at = self.place();
        let literal = match self.peek().clone() {
            Token::Int(number) => Value::Int(number),
            Token::Uint(number) => Value::Uint(number),
            Token::Double(number) => Value::Double(number),
            Token::Text(text) => Value::text(text),
            Token::Bytes(bytes) => Value::Bytes(Arc::from(bytes)),
            Token::Ident(name) => return self.named(at, &name),
            Token::Sign("(") => {
                self.next();
                let inner = self.ternary()?;
                self.need(")")?;
                return Ok(inner);
            }
            Token::Sign("[") => {
                self.next();
                return self.list_literal(at);
            }
            Token::Sign("{") => {
                self.next();
                return self.map_literal(at);
            }
            // A leading dot means the outermost scope, which is the only one here.
            Token::Sign(".") => {
                self.next();
                return self.primary();
            }
            _ => return Err(self.unexpected("{'[', '{', '(', '.', '-', '!', literal, IDENTIFIER}")),
        };
        self.next();
        Ok(self.node(at, Node::Literal(literal)))
    }

    fn named(&mut self, at: usize, name: &str) -> Result<Expr, Problem> {
        self.next();
        let literal = match name {
            "true" => Some(Value::Bool(true)),
            "false" => Some(Value::Bool(false)),
            "null" => Some(Value::Null),
            "in" => {
                self.at -= 1;
                return Err(self.unexpected("IDENTIFIER"));
            }
            _ => None,
        };
        if let Some(literal) = literal {
            return Ok(self.node(at, Node::Literal(literal)));
        }
        if !self.take("(") {
            return Ok(self.node(at, Node::Ident(name.to_owned())));
        }
        let arguments = self.list(")")?;
        if name == "has" {
            return self.has(at, arguments);
        }
        Ok(self.call(at, name, arguments))
    }

    fn has(&mut self, at: usize, mut arguments: Vec<Expr>) -> Result<Expr, Problem> {
        if arguments.len() == 1
            && let Some(Expr {
                of: Node::Select { operand, field, .. },
                ..
            }) = arguments.pop()
        {
            return Ok(self.node(at, Node::Has { operand, field }));
        }
        Err(Problem {
            at,
            message: "invalid argument to has() macro".to_owned(),
        })
    }

    fn list_literal(&mut self, at: usize) -> Result<Expr, Problem> {
        let mut items = Vec::new();
        while !self.take("]") {
            let optional = self.take("?");
            items.push((self.ternary()?, optional));
            if !self.take(",") {
                self.need("]")?;
                break;
            }
        }
        Ok(self.node(at, Node::List(items)))
    }

    fn map_literal(&mut self, at: usize) -> Result<Expr, Problem> {
        let mut entries = Vec::new();
        while !self.take("}") {
            let optional = self.take("?");
            let key = self.ternary()?;
            self.need(":")?;
            entries.push((key, self.ternary()?, optional));
            if !self.take(",") {
                self.need("}")?;
                break;
            }
        }
        Ok(self.node(at, Node::Map(entries)))
    }

    /// A method, or a macro that looks like one.
    fn method(&mut self, at: usize, target: Expr, name: &str, mut arguments: Vec<Expr>) -> Result<Expr, Problem> {
        let is_cel = matches!(&target.of, Node::Ident(space) if space == "cel");
        let of = match (name, arguments.len()) {
            ("bind", 3) if is_cel => {
                let (body, value) = (arguments.pop(), arguments.pop());
                let name = self.variable(&arguments[0])?;
                let (Some(body), Some(value)) = (body.map(Box::new), value.map(Box::new)) else {
                    return Err(self.unexpected("arguments"));
                };
                return Ok(self.node(at, Node::Bind { name, value, body }));
            }
            ("optMap" | "optFlatMap", 2) => {
                let flat = name == "optFlatMap";
                let Some(body) = arguments.pop().map(Box::new) else {
                    return Err(self.unexpected("arguments"));
                };
                let name = self.variable(&arguments[0])?;
                let value = Box::new(target);
                return Ok(self.node(
                    at,
                    Node::OptionalMap {
                        value,
                        name,
                        body,
                        flat,
                    },
                ));
            }
            ("all", 2 | 3) => Some(Macro::All),
            ("exists", 2 | 3) => Some(Macro::Exists),
            ("exists_one" | "existsOne", 2 | 3) => Some(Macro::ExistsOne),
            ("map", 2 | 3) => Some(Macro::Map),
            ("filter", 2) => Some(Macro::Filter),
            ("transformList", 3 | 4) => Some(Macro::TransformList),
            ("transformMap", 3 | 4) => Some(Macro::TransformMap),
            ("sortBy", 2) => Some(Macro::SortBy),
            _ => None,
        };
        if let Some(of) = of {
            return self.through(at, of, target, arguments);
        }
        // Functions in a namespace, e.g. `optional.none()`, look like methods of it.
        if let Node::Ident(space) = &target.of {
            let qualified = format!("{space}.{name}");
            if crate::signatures::is_function(&qualified) {
                return Ok(self.call(at, &qualified, arguments));
            }
        }
        let function = name.to_owned();
        let target = Some(Box::new(target));
        Ok(self.node(
            at,
            Node::Call {
                function,
                target,
                arguments,
            },
        ))
    }

    fn through(&mut self, at: usize, of: Macro, range: Expr, mut arguments: Vec<Expr>) -> Result<Expr, Problem> {
        let two_names = match of {
            Macro::All | Macro::Exists | Macro::ExistsOne => arguments.len() == 3,
            Macro::TransformList | Macro::TransformMap => true,
            Macro::Map | Macro::Filter | Macro::SortBy => false,
        };
        let Some(body) = arguments.pop() else {
            return Err(self.unexpected("arguments"));
        };
        let count = if two_names { 2 } else { 1 };
        let filter = if arguments.len() > count { arguments.pop() } else { None };
        let names = arguments
            .iter()
            .map(|name| self.variable(name))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(self.node(
            at,
            Node::Through(Box::new(Through {
                of,
                range,
                names,
                filter,
                body,
            })),
        ))
    }

    #[expect(clippy::unused_self, reason = "it stands among the parser's parts")]
    fn variable(&self, expr: &Expr) -> Result<String, Problem> {
        match &expr.of {
            Node::Ident(name) => Ok(name.clone()),
            _ => Err(Problem {
                at: expr.at,
                message: "argument must be a simple name".to_owned(),
            }),
        }
    }
}
