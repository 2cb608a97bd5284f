//! Reads LaTeX expressions as the two libraries do that lm-eval compares answers with.
//!
//! *Sympy*: `parse_latex` of sympy 1.14, ANTLR grammar. It reads as much as it can and leaves the rest, so that
//! "7,9" is 7 and "5 units" a product of letters; every letter and command is a variable, π, e and i too; `x(1)`
//! is a function. Not read here: integrals, sums, products, limits, derivatives, bras and kets.
//!
//! *Verify*: latex2sympy2_extended, the parser of math-verify. The whole text must be an expression; π, e and i
//! are numbers; a whole number before a positive one is added to it (2 1/2, but also 2(5)); `x(1)` is a product;
//! capitals are small letters. Read here are the same constructions as above.

use super::rational::Rational;

/// Longest expression that is read, in tokens; the longest answer of the test split has about 150.
const MAX_TOKENS: usize = 512;
/// Deepest nesting that is read.
const MAX_DEPTH: usize = 40;

/// Whose rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    Sympy,
    Verify,
}

/// What was read.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expression {
    Number {
        value: Rational,
        /// Was it written with a decimal point?
        decimal: bool,
    },
    /// A variable.
    Symbol(String),
    Pi,
    Euler,
    Imaginary,
    Infinity,
    Negative(Box<Expression>),
    Binary(Operator, Box<Expression>, Box<Expression>),
    /// A known function: `sqrt`, `sin`, `log` (argument and base), `factorial`.
    Known(&'static str, Vec<Expression>),
    /// An unknown function.
    Unknown(String, Vec<Expression>),
    /// An equation or inequality, of which nothing is kept.
    Relation,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Power,
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Char(char),
    /// `\frac`, `\{`: without the backslash.
    Command(String),
    /// `dx`, which sympy reads as one symbol.
    Differential(String),
    /// What no expression holds.
    Foreign,
}

/// Where nothing can be read.
#[derive(Debug)]
struct Unread;

type Read<T> = Result<T, Unread>;

/// Reads a text; `None` where the library would fail.
pub(super) fn parse(text: &str, dialect: Dialect) -> Option<Expression> {
    let tokens = tokens(text, dialect)?;
    let mut parser = Parser {
        tokens,
        at: 0,
        depth: 0,
        bars: 0,
        dialect,
    };
    let expression = parser.relation().ok()??;
    match (dialect, parser.peek()) {
        (_, None) => Some(expression),
        (Dialect::Sympy, Some(token)) => (*token != Token::Foreign).then_some(expression),
        (Dialect::Verify, Some(_)) => None,
    }
}

const SKIPPED: [&str; 33] = [
    ",",
    "thinspace",
    ":",
    "medspace",
    ";",
    "thickspace",
    "quad",
    "qquad",
    "!",
    "negthinspace",
    "negmedspace",
    "negthickspace",
    "left",
    "right",
    "vrule",
    "vcenter",
    "vbox",
    "vskip",
    "vspace",
    "hfil",
    "*",
    "-",
    ".",
    "/",
    "\"",
    "(",
    "=",
    "displaystyle",
    "textstyle",
    "limits",
    "bigl",
    "bigr",
    "big",
];
/// Of the skipped ones, those that sympy takes for variables.
const SKIPPED_BY_VERIFY: [&str; 6] = ["displaystyle", "textstyle", "limits", "bigl", "bigr", "big"];

fn tokens(text: &str, dialect: Dialect) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut letters = text.trim().chars().peekable();
    while let Some(letter) = letters.next() {
        if tokens.len() > MAX_TOKENS {
            return None;
        }
        let token = match letter {
            ' ' | '\t' | '\r' | '\n' => continue,
            '\\' => {
                let mut name = String::new();
                while let Some(next) = letters.next_if(char::is_ascii_alphabetic) {
                    name.push(next);
                }
                if name.is_empty() {
                    name.extend(letters.next());
                }
                if matches!(name.as_str(), "left" | "right") && letters.peek() == Some(&'|') {
                    // One token of sympy's, which no group begins with.
                    match dialect {
                        Dialect::Sympy => Token::Foreign,
                        Dialect::Verify => continue,
                    }
                } else if is_skipped(&name, dialect) {
                    continue;
                } else if is_known_command(&name) {
                    Token::Command(name)
                } else {
                    Token::Foreign
                }
            }
            'd' if dialect == Dialect::Sympy => {
                let mut ahead = letters.clone();
                while ahead.next_if(char::is_ascii_whitespace).is_some() {}
                match ahead.next_if(char::is_ascii_alphabetic) {
                    Some(variable) => {
                        letters = ahead;
                        Token::Differential(format!("d{variable}"))
                    }
                    None => Token::Char('d'),
                }
            }
            '&' if letters.next_if_eq(&'=').is_some() => Token::Char('='),
            letter
                if letter.is_ascii_alphanumeric() || "+-*/(){}[]|_^:<>=!',.".contains(letter) =>
            {
                Token::Char(letter)
            }
            _ => Token::Foreign,
        };
        tokens.push(token);
    }
    Some(tokens)
}

fn is_skipped(name: &str, dialect: Dialect) -> bool {
    SKIPPED.contains(&name) && (dialect == Dialect::Verify || !SKIPPED_BY_VERIFY.contains(&name))
}

fn is_known_command(name: &str) -> bool {
    matches!(name, "{" | "}") || name.starts_with(|letter: char| letter.is_ascii_alphabetic())
}

const FUNCTIONS: [&str; 22] = [
    "exp", "log", "lg", "ln", "sin", "cos", "tan", "csc", "sec", "cot", "arcsin", "arccos",
    "arctan", "arccsc", "arcsec", "arccot", "sinh", "cosh", "tanh", "arsinh", "arcosh", "artanh",
];
/// Commands that are no variables and not read.
const UNREAD: [&str; 18] = [
    "int",
    "sum",
    "prod",
    "lim",
    "langle",
    "rangle",
    "rfloor",
    "rceil",
    "to",
    "rightarrow",
    "Rightarrow",
    "longrightarrow",
    "Longrightarrow",
    "begin",
    "end",
    "cup",
    "cap",
    "pm",
];
/// Of these, those that are variables to sympy.
const SYMBOLS_TO_SYMPY: [&str; 5] = ["begin", "end", "cup", "cap", "pm"];

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
    /// Open `|`: within them another one closes.
    bars: usize,
    dialect: Dialect,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn peek_char(&self) -> Option<char> {
        match self.peek() {
            Some(Token::Char(letter)) => Some(*letter),
            _ => None,
        }
    }

    fn command(&self) -> Option<&str> {
        match self.peek() {
            Some(Token::Command(name)) => Some(name),
            _ => None,
        }
    }

    fn take_char(&mut self, wanted: char) -> bool {
        let found = self.peek_char() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    fn take_command(&mut self, wanted: &str) -> bool {
        let found = self.command() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    fn expect_char(&mut self, wanted: char) -> Read<()> {
        self.take_char(wanted).then_some(()).ok_or(Unread)
    }

    /// An operator and its right side; without a right side nothing is taken.
    fn after_operator(
        &mut self,
        right: impl FnOnce(&mut Self) -> Read<Option<Expression>>,
    ) -> Read<Option<Expression>> {
        let start = self.at;
        self.at += 1;
        let read = right(self)?;
        if read.is_none() {
            self.at = start;
        }
        Ok(read)
    }

    fn relation(&mut self) -> Read<Option<Expression>> {
        let Some(mut left) = self.sum()? else {
            return Ok(None);
        };
        loop {
            let is_relation = matches!(self.peek_char(), Some('=' | '<' | '>'))
                || matches!(
                    self.command(),
                    Some(
                        "neq"
                            | "leq"
                            | "le"
                            | "leqq"
                            | "leqslant"
                            | "geq"
                            | "ge"
                            | "geqq"
                            | "geqslant"
                    )
                );
            if !is_relation || self.after_operator(Self::sum)?.is_none() {
                return Ok(Some(left));
            }
            left = Expression::Relation;
        }
    }

    /// An expression within brackets or braces.
    fn inner(&mut self) -> Read<Expression> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Unread);
        }
        let bars = std::mem::take(&mut self.bars);
        let expression = self.sum()?.ok_or(Unread)?;
        self.bars = bars;
        self.depth -= 1;
        Ok(expression)
    }

    fn sum(&mut self) -> Read<Option<Expression>> {
        let Some(mut left) = self.product(true)? else {
            return Ok(None);
        };
        loop {
            let operator = match self.peek_char() {
                Some('+') => Operator::Add,
                Some('-') => Operator::Subtract,
                _ => return Ok(Some(left)),
            };
            match self.after_operator(|parser| parser.product(true))? {
                Some(right) => left = binary(operator, left, right),
                None => return Ok(Some(left)),
            }
        }
    }

    /// `functions`: may one follow another factor without a sign between?
    fn product(&mut self, functions: bool) -> Read<Option<Expression>> {
        let Some(mut left) = self.signed(functions)? else {
            return Ok(None);
        };
        loop {
            let operator = match (self.peek_char(), self.command()) {
                (Some('*'), _) | (_, Some("times" | "cdot")) => Operator::Multiply,
                (Some('/' | ':'), _) | (_, Some("div")) => Operator::Divide,
                _ => return Ok(Some(left)),
            };
            match self.after_operator(|parser| parser.signed(functions))? {
                Some(right) => left = binary(operator, left, right),
                None => return Ok(Some(left)),
            }
        }
    }

    fn signed(&mut self, functions: bool) -> Read<Option<Expression>> {
        let mut negative = false;
        let start = self.at;
        while let Some(sign @ ('+' | '-')) = self.peek_char() {
            negative ^= sign == '-';
            self.at += 1;
        }
        let Some(factors) = self.factors(functions)? else {
            self.at = start;
            return Ok(None);
        };
        Ok(Some(match (negative, factors) {
            (false, factors) => factors,
            (true, Expression::Number { value, decimal }) => Expression::Number {
                value: value.negative().ok_or(Unread)?,
                decimal,
            },
            (true, factors) => Expression::Negative(Box::new(factors)),
        }))
    }

    /// Factors without a sign between them.
    fn factors(&mut self, functions: bool) -> Read<Option<Expression>> {
        let Some(first) = self.postfix(true)? else {
            return Ok(None);
        };
        let mut factors = vec![first];
        while let Some(factor) = self.postfix(functions)? {
            factors.push(factor);
        }
        if self.dialect == Dialect::Sympy {
            drop_times_signs(&mut factors);
        }
        let last = factors.pop().ok_or(Unread)?;
        let product = factors.into_iter().rev().fold(last, |right, left| {
            self.mixed_number(&left, &right)
                .unwrap_or_else(|| binary(Operator::Multiply, left, right))
        });
        Ok(Some(product))
    }

    /// The sum of a whole number and the fraction behind it.
    fn mixed_number(&self, whole: &Expression, fraction: &Expression) -> Option<Expression> {
        let (Some(whole), Some(part)) = (literal(whole), literal(fraction)) else {
            return None;
        };
        let is_mixed = self.dialect == Dialect::Verify && whole.is_integer() && part.is_positive();
        let value = is_mixed.then(|| {
            if whole.is_negative() {
                whole.plus(part.negative()?)
            } else {
                whole.plus(part)
            }
        })??;
        Some(Expression::Number {
            value,
            decimal: false,
        })
    }

    fn postfix(&mut self, functions: bool) -> Read<Option<Expression>> {
        let Some(mut base) = self.operand(functions)? else {
            return Ok(None);
        };
        loop {
            if self.take_char('!') {
                base = Expression::Known("factorial", vec![base]);
            } else if self.peek_char() == Some('^') {
                match self.after_operator(Self::exponent)? {
                    Some(exponent) => base = binary(Operator::Power, base, exponent),
                    None => return Ok(Some(base)),
                }
            } else {
                return Ok(Some(base));
            }
        }
    }

    fn exponent(&mut self) -> Read<Option<Expression>> {
        if self.take_char('{') {
            let exponent = self.inner()?;
            self.expect_char('}')?;
            return Ok(Some(exponent));
        }
        self.atom()
    }

    fn operand(&mut self, functions: bool) -> Read<Option<Expression>> {
        match self.peek() {
            Some(Token::Char('|')) if self.bars == 0 => {
                self.at += 1;
                self.bars += 1;
                let inner = self.sum()?.ok_or(Unread)?;
                self.bars -= 1;
                self.expect_char('|')?;
                return Ok(Some(Expression::Known("abs", vec![inner])));
            }
            Some(Token::Char(open @ ('(' | '[' | '{'))) => {
                let close = match open {
                    '(' => ')',
                    '[' => ']',
                    _ => '}',
                };
                self.at += 1;
                let inner = self.inner()?;
                self.expect_char(close)?;
                return Ok(Some(inner));
            }
            Some(Token::Command(name)) => {
                let (name, start) = (name.clone(), self.at);
                self.at += 1;
                match name.as_str() {
                    "{" => return self.closed("}").map(Some),
                    "lfloor" => {
                        let inner = self.closed("rfloor")?;
                        return Ok(Some(Expression::Known("floor", vec![inner])));
                    }
                    "lceil" => {
                        let inner = self.closed("rceil")?;
                        return Ok(Some(Expression::Known("ceil", vec![inner])));
                    }
                    _ if functions => {
                        if let Some(function) = self.function(&name)? {
                            return Ok(Some(function));
                        }
                    }
                    _ => {}
                }
                self.at = start;
            }
            _ => {}
        }
        let start = self.at;
        let Some(atom) = self.atom()? else {
            return Ok(None);
        };
        if let Expression::Symbol(name) = &atom
            && functions
            && self.dialect == Dialect::Sympy
            && self.peek_char() == Some('(')
        {
            let (name, after) = (name.clone(), self.at);
            match self.arguments() {
                Ok(arguments) => return Ok(Some(Expression::Unknown(name, arguments))),
                Err(Unread) if self.depth > MAX_DEPTH => return Err(Unread),
                Err(Unread) => self.at = after,
            }
        }
        debug_assert!(self.at > start);
        Ok(Some(atom))
    }

    fn closed(&mut self, end: &str) -> Read<Expression> {
        let inner = self.inner()?;
        self.take_command(end).then_some(inner).ok_or(Unread)
    }

    fn braced(&mut self) -> Read<Expression> {
        self.expect_char('{')?;
        let inner = self.inner()?;
        self.expect_char('}')?;
        Ok(inner)
    }

    fn arguments(&mut self) -> Read<Vec<Expression>> {
        self.expect_char('(')?;
        let mut arguments = vec![self.inner()?];
        while self.take_char(',') {
            arguments.push(self.inner()?);
        }
        self.expect_char(')')?;
        Ok(arguments)
    }

    /// What follows the name of a function; `None` where it is no function's.
    fn function(&mut self, name: &str) -> Read<Option<Expression>> {
        if name == "sqrt" {
            let root = if self.take_char('[') {
                let root = self.inner()?;
                self.expect_char(']')?;
                Some(root)
            } else {
                None
            };
            let base = self.braced()?;
            let arguments = std::iter::once(base).chain(root).collect();
            return Ok(Some(Expression::Known("root", arguments)));
        }
        if name == "overline" {
            let inner = self.braced()?;
            return Ok(Some(Expression::Known("conjugate", vec![inner])));
        }
        let Some(&name) = FUNCTIONS.iter().find(|&&known| known == name) else {
            return Ok(None);
        };
        let (mut base, mut power) = (None, None);
        for _ in 0..2 {
            if self.peek_char() == Some('_') && base.is_none() {
                base = self.after_operator(Self::exponent)?;
            } else if self.peek_char() == Some('^') && power.is_none() {
                power = self.after_operator(Self::exponent)?;
            }
        }
        let argument = if self.take_char('(') {
            let argument = self.inner()?;
            self.expect_char(')')?;
            argument
        } else {
            self.depth += 1;
            if self.depth > MAX_DEPTH {
                return Err(Unread);
            }
            let argument = self.product(false)?.ok_or(Unread)?;
            self.depth -= 1;
            argument
        };
        let inverse = power
            .take_if(|power| literal(power).and_then(Rational::integer) == Some(-1))
            .is_some();
        let value = match name {
            "log" | "ln" | "lg" => {
                let own = match name {
                    "lg" => integer(10).ok_or(Unread)?,
                    _ => Expression::Euler,
                };
                Expression::Known("log", vec![argument, base.unwrap_or(own)])
            }
            _ if inverse => Expression::Known(inverse_of(name), vec![argument]),
            _ => Expression::Known(name, vec![argument]),
        };
        Ok(Some(match power {
            Some(power) => binary(Operator::Power, value, power),
            None => value,
        }))
    }

    /// A number, variable, fraction or binomial coefficient.
    fn atom(&mut self) -> Read<Option<Expression>> {
        let Some(token) = self.peek() else {
            return Ok(None);
        };
        match token.clone() {
            Token::Char(digit) if digit.is_ascii_digit() => self.number().map(Some),
            Token::Char(letter) if letter.is_ascii_alphabetic() => {
                self.at += 1;
                Ok(Some(match (self.dialect, letter) {
                    (Dialect::Verify, 'e') => Expression::Euler,
                    (Dialect::Verify, 'i') => Expression::Imaginary,
                    (Dialect::Verify, letter) => {
                        Expression::Symbol(self.subscripted(letter.to_ascii_lowercase().into())?)
                    }
                    (Dialect::Sympy, letter) => {
                        Expression::Symbol(self.subscripted(letter.into())?)
                    }
                }))
            }
            Token::Differential(name) => {
                self.at += 1;
                Ok(Some(Expression::Symbol(name)))
            }
            Token::Command(name) => {
                let start = self.at;
                self.at += 1;
                let atom = self.command_atom(&name)?;
                if atom.is_none() {
                    self.at = start;
                }
                Ok(atom)
            }
            _ => Ok(None),
        }
    }

    fn command_atom(&mut self, name: &str) -> Read<Option<Expression>> {
        let is_symbol = self.dialect == Dialect::Sympy && SYMBOLS_TO_SYMPY.contains(&name);
        Ok(match name {
            "frac" | "dfrac" | "tfrac" => {
                let (top, bottom) = (self.part()?, self.part()?);
                let value = literal(&top)
                    .zip(literal(&bottom))
                    .filter(|_| self.dialect == Dialect::Verify)
                    .and_then(|(top, bottom)| top.divided_by(bottom));
                Some(match value {
                    Some(value) => Expression::Number {
                        value,
                        decimal: false,
                    },
                    None => binary(Operator::Divide, top, bottom),
                })
            }
            "binom" | "dbinom" | "tbinom" => {
                let arguments = vec![self.braced()?, self.braced()?];
                Some(Expression::Known("binomial", arguments))
            }
            "infty" => Some(Expression::Infinity),
            "pi" if self.dialect == Dialect::Verify => Some(Expression::Pi),
            "mathit" => {
                self.expect_char('{')?;
                let mut text = String::new();
                while let Some(letter) = self.peek_char().filter(char::is_ascii_alphabetic) {
                    text.push(letter);
                    self.at += 1;
                }
                self.expect_char('}')?;
                Some(Expression::Symbol(text))
            }
            "}" | "times" | "cdot" | "div" | "neq" | "leq" | "le" | "leqq" | "leqslant" | "geq"
            | "ge" | "geqq" | "geqslant" | "lfloor" | "lceil" | "{" | "sqrt" | "overline" => None,
            name if FUNCTIONS.contains(&name) => None,
            name if UNREAD.contains(&name) && !is_symbol => None,
            name => Some(Expression::Symbol(self.subscripted(name.to_owned())?)),
        })
    }

    /// Upper or lower part of a fraction: one digit, or what stands in braces.
    fn part(&mut self) -> Read<Expression> {
        if let Some(digit) = self.peek_char().and_then(|letter| letter.to_digit(10)) {
            self.at += 1;
            return integer(i128::from(digit)).ok_or(Unread);
        }
        self.braced()
    }

    fn number(&mut self) -> Read<Expression> {
        let mut whole = self.digits();
        loop {
            let digit = |offset| match self.tokens.get(self.at + offset) {
                Some(Token::Char(letter)) => letter.is_ascii_digit(),
                _ => false,
            };
            if self.peek_char() != Some(',') || !(digit(1) && digit(2) && digit(3)) {
                break;
            }
            self.at += 1;
            for _ in 0..3 {
                whole.extend(self.peek_char());
                self.at += 1;
            }
            if self.peek_char().is_some_and(|next| next.is_ascii_digit()) {
                break;
            }
        }
        let decimal = self.take_char('.');
        let fraction = if decimal {
            self.digits()
        } else {
            String::new()
        };
        if decimal && fraction.is_empty() {
            return Err(Unread);
        }
        let value = Rational::decimal(&whole, &fraction).ok_or(Unread)?;
        if self.dialect == Dialect::Verify && self.peek_char() == Some('_') {
            // The base of a numeral says nothing to the library.
            self.after_operator(Self::exponent)?;
        }
        Ok(Expression::Number { value, decimal })
    }

    fn digits(&mut self) -> String {
        let mut digits = String::new();
        while let Some(digit) = self.peek_char().filter(char::is_ascii_digit) {
            digits.push(digit);
            self.at += 1;
        }
        digits
    }

    /// The name with its index and primes.
    fn subscripted(&mut self, mut name: String) -> Read<String> {
        while self.take_char('\'') {
            name.push('\'');
        }
        if self.peek_char() == Some('_') {
            let start = self.at;
            if self.after_operator(Self::exponent)?.is_some() {
                let index = self.tokens.get(start..self.at).unwrap_or_default();
                let index = index.iter().filter_map(|token| match token {
                    Token::Char('{' | '}') | Token::Foreign => None,
                    Token::Char(letter) => Some(letter.to_string()),
                    Token::Command(text) | Token::Differential(text) => Some(text.clone()),
                });
                name.extend(index);
            }
        }
        while self.take_char('\'') {
            name.push('\'');
        }
        Ok(name)
    }
}

/// The value of a written number or fraction.
fn literal(expression: &Expression) -> Option<Rational> {
    match expression {
        Expression::Number { value, .. } => Some(*value),
        _ => None,
    }
}

fn integer(value: i128) -> Option<Expression> {
    Some(Expression::Number {
        value: Rational::new(value, 1)?,
        decimal: false,
    })
}

fn binary(operator: Operator, left: Expression, right: Expression) -> Expression {
    Expression::Binary(operator, Box::new(left), Box::new(right))
}

/// An `x` between two factors without variables is a sign of multiplication.
fn drop_times_signs(factors: &mut Vec<Expression>) {
    let mut at = 1;
    while at + 1 < factors.len() {
        let is_sign = factors.get(at) == Some(&Expression::Symbol("x".to_owned()));
        let neighbours = [factors.get(at - 1), factors.get(at + 1)];
        if is_sign && !neighbours.into_iter().flatten().any(has_symbol) {
            factors.remove(at);
        }
        at += 1;
    }
}

pub(super) fn has_symbol(expression: &Expression) -> bool {
    match expression {
        Expression::Symbol(_) => true,
        Expression::Negative(inner) => has_symbol(inner),
        Expression::Binary(_, left, right) => has_symbol(left) || has_symbol(right),
        Expression::Known(_, arguments) | Expression::Unknown(_, arguments) => {
            arguments.iter().any(has_symbol)
        }
        _ => false,
    }
}

fn inverse_of(name: &'static str) -> &'static str {
    match name {
        "sin" => "arcsin",
        "cos" => "arccos",
        "tan" => "arctan",
        "csc" => "arccsc",
        "sec" => "arcsec",
        "cot" => "arccot",
        "sinh" => "arsinh",
        "cosh" => "arcosh",
        "tanh" => "artanh",
        name => name,
    }
}
