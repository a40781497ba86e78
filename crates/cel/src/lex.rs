//! Words of an expression.

use crate::Problem;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Token {
    Ident(String),
    /// A name between backticks, which may hold dots, dashes and slashes.
    Quoted(String),
    Int(i64),
    /// 2^63, which is an integer only behind a minus.
    IntMinimum,
    Uint(u64),
    Double(f64),
    Text(String),
    Bytes(Vec<u8>),
    Sign(&'static str),
    End,
}

/// The signs, longer ones before their beginnings.
const SIGNS: [&str; 25] = [
    "&&", "||", "==", "!=", "<=", ">=", "?", "(", ")", "[", "]", "{", "}", ".", ",", ":", "+", "-", "*", "/", "%", "!",
    "<", ">", "=",
];

/// Cuts the text into words with their places.
pub(crate) fn words(text: &str) -> Result<Vec<(Token, usize)>, Problem> {
    let chars: Vec<char> = text.chars().collect();
    let mut lexer = Lexer { chars, at: 0 };
    let mut words = Vec::new();
    loop {
        lexer.skip_space();
        let at = lexer.at;
        let token = lexer.token()?;
        let is_end = token == Token::End;
        words.push((token, at));
        if is_end {
            return Ok(words);
        }
    }
}

struct Lexer {
    chars: Vec<char>,
    at: usize,
}

impl Lexer {
    fn peek(&self, ahead: usize) -> char {
        self.chars.get(self.at + ahead).copied().unwrap_or('\0')
    }

    fn wrong(&self, at: usize, why: &str) -> Problem {
        Problem {
            at,
            message: format!("Syntax error: {why}"),
        }
    }

    fn skip_space(&mut self) {
        loop {
            if self.peek(0).is_whitespace() {
                self.at += 1;
            } else if self.peek(0) == '/' && self.peek(1) == '/' {
                while self.at < self.chars.len() && self.peek(0) != '\n' {
                    self.at += 1;
                }
            } else {
                return;
            }
        }
    }

    fn token(&mut self) -> Result<Token, Problem> {
        if self.at >= self.chars.len() {
            return Ok(Token::End);
        }
        let c = self.peek(0);
        if c.is_ascii_digit() || (c == '.' && self.peek(1).is_ascii_digit()) {
            return self.number();
        }
        if let Some(length) = self.text_prefix() {
            return self.text(length);
        }
        if c.is_ascii_alphabetic() || c == '_' {
            let start = self.at;
            while self.peek(0).is_ascii_alphanumeric() || self.peek(0) == '_' {
                self.at += 1;
            }
            return Ok(Token::Ident(self.chars[start..self.at].iter().collect()));
        }
        if c == '`' {
            let start = self.at;
            self.at += 1;
            while self.at < self.chars.len() && self.peek(0) != '`' {
                self.at += 1;
            }
            if self.at >= self.chars.len() {
                return Err(self.wrong(start, "token recognition error at: '`'"));
            }
            let name = self.chars[start + 1..self.at].iter().collect();
            self.at += 1;
            return Ok(Token::Quoted(name));
        }
        for sign in SIGNS {
            let length = sign.len();
            if sign.chars().enumerate().all(|(index, c)| self.peek(index) == c) {
                self.at += length;
                return Ok(Token::Sign(sign));
            }
        }
        Err(self.wrong(self.at, &format!("token recognition error at: '{c}'")))
    }

    fn number(&mut self) -> Result<Token, Problem> {
        let start = self.at;
        if self.peek(0) == '0' && matches!(self.peek(1), 'x' | 'X') {
            self.at += 2;
            while self.peek(0).is_ascii_hexdigit() {
                self.at += 1;
            }
            let digits: String = self.chars[start + 2..self.at].iter().collect();
            return self.whole(start, u64::from_str_radix(&digits, 16).ok());
        }
        let digits = |lexer: &mut Self| {
            while lexer.peek(0).is_ascii_digit() {
                lexer.at += 1;
            }
        };
        digits(self);
        let mut is_double = false;
        if self.peek(0) == '.' && self.peek(1).is_ascii_digit() {
            is_double = true;
            self.at += 1;
            digits(self);
        }
        if matches!(self.peek(0), 'e' | 'E') {
            let sign = usize::from(matches!(self.peek(1), '+' | '-'));
            if self.peek(1 + sign).is_ascii_digit() {
                is_double = true;
                self.at += 1 + sign;
                digits(self);
            }
        }
        let text: String = self.chars[start..self.at].iter().collect();
        if is_double {
            let number = text.parse().ok();
            return number
                .map(Token::Double)
                .ok_or_else(|| self.wrong(start, "invalid double literal"));
        }
        self.whole(start, text.parse().ok())
    }

    fn whole(&mut self, start: usize, number: Option<u64>) -> Result<Token, Problem> {
        let number = number.ok_or_else(|| self.wrong(start, "invalid int literal"))?;
        if matches!(self.peek(0), 'u' | 'U') {
            self.at += 1;
            return Ok(Token::Uint(number));
        }
        match i64::try_from(number) {
            Ok(number) => Ok(Token::Int(number)),
            Err(_) if number == i64::MIN.unsigned_abs() => Ok(Token::IntMinimum),
            Err(_) => Err(self.wrong(start, "invalid int literal")),
        }
    }

    /// How many letters stand before the quote of a text that begins here.
    fn text_prefix(&self) -> Option<usize> {
        (0..=2).find(|length| {
            matches!(self.peek(*length), '"' | '\'')
                && (0..*length).all(|index| matches!(self.peek(index), 'r' | 'R' | 'b' | 'B'))
        })
    }

    fn text(&mut self, prefix: usize) -> Result<Token, Problem> {
        let start = self.at;
        let letters: String = self.chars[start..start + prefix]
            .iter()
            .collect::<String>()
            .to_lowercase();
        let (raw, is_bytes) = (letters.contains('r'), letters.contains('b'));
        self.at += prefix;
        let quote = self.peek(0);
        let width = if self.peek(1) == quote && self.peek(2) == quote {
            3
        } else {
            1
        };
        self.at += width;
        let mut bytes = Vec::new();
        loop {
            if self.at >= self.chars.len() || (width == 1 && self.peek(0) == '\n') {
                return Err(self.wrong(start, "token recognition error: the text has no end"));
            }
            if (0..width).all(|index| self.peek(index) == quote) {
                self.at += width;
                break;
            }
            let c = self.peek(0);
            self.at += 1;
            if c == '\\' && !raw {
                self.escaped(is_bytes, &mut bytes)?;
            } else {
                bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        if is_bytes {
            return Ok(Token::Bytes(bytes));
        }
        let text = String::from_utf8(bytes);
        text.map(Token::Text)
            .map_err(|_| self.wrong(start, "the text is no valid Unicode"))
    }

    fn escaped(&mut self, is_bytes: bool, bytes: &mut Vec<u8>) -> Result<(), Problem> {
        let start = self.at;
        let c = self.peek(0);
        self.at += 1;
        let plain = match c {
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            'a' => '\u{7}',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'v' => '\u{b}',
            '\\' | '\'' | '"' | '`' | '?' => c,
            'x' | 'X' | 'u' | 'U' | '0'..='3' => {
                let (count, radix) = match c {
                    'x' | 'X' => (2, 16),
                    'u' => (4, 16),
                    'U' => (8, 16),
                    _ => {
                        self.at -= 1;
                        (3, 8)
                    }
                };
                let digits: String = (0..count).map(|index| self.peek(index)).collect();
                self.at += count;
                let code = u32::from_str_radix(&digits, radix).ok();
                if is_bytes
                    && count < 4
                    && let Some(byte) = code.and_then(|code| u8::try_from(code).ok())
                {
                    bytes.push(byte);
                    return Ok(());
                }
                code.and_then(char::from_u32)
                    .ok_or_else(|| self.wrong(start, "invalid escape"))?
            }
            _ => return Err(self.wrong(start, "invalid escape")),
        };
        bytes.extend_from_slice(plain.encode_utf8(&mut [0; 4]).as_bytes());
        Ok(())
    }
}
