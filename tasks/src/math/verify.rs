//! The second opinion of lm-eval: the library math-verify 0.9 (`parser.py`, `grader.py`, and
//! `math_normalization.py` of latex2sympy2_extended), as far as answers of this benchmark need it.
//!
//! It looks for an answer in the whole completion, from the most to the least certain place: after "final answer
//! is", in `\boxed{}`, after "answer", anywhere; LaTeX and plain numbers alike; of several the last that can be read.
//! Then it compares numbers, expressions, lists, intervals, matrices, equations and inequalities by value. Decimal
//! fractions are rounded to six places.
//!
//! Not covered: solving equations, sets against inequalities, unions of intervals, chains of inequalities, and most
//! of its list of units; such answers are equal only if spelled alike. Formulas in bare square brackets are not
//! looked for.

use std::sync::LazyLock;

use regex::{Captures, Regex};

use super::{
    complex::Complex,
    equal,
    expression::{self, Dialect, Expression, Operator},
    rational::Rational,
};
use crate::text;

/// Longest formula that is looked at, in bytes.
const MAX_FORMULA: usize = 2_000;
/// Longest list that is compared.
const MAX_ITEMS: usize = 64;
/// Formulas joined by "and", "or" or commas that make one answer.
const MAX_JOINED: usize = 6;
/// Deepest nesting of lists.
const MAX_DEPTH: usize = 8;

/// Does the answer of a completion have the value of the solution's?
pub(super) fn verify(solution: &str, completion: &str) -> bool {
    let (gold, answer) = (extract(solution), extract(completion));
    let same_text = gold.text.is_some() && gold.text == answer.text;
    let same_value =
        || matches!((&gold.value, &answer.value), (Some(gold), Some(answer)) if same(gold, answer));
    same_text || same_value()
}

/// What was found in a text.
struct Extracted {
    /// The first that could be read.
    value: Option<Value>,
    /// The spelling of the first that was tried.
    text: Option<String>,
}

/// An answer of any kind.
#[derive(Clone, Debug, PartialEq)]
enum Value {
    Scalar(Expression),
    /// A word such as a name or a day.
    Word(String),
    List(Brackets, Vec<Value>),
    /// Sides of an equation or inequality.
    Relation(Comparison, Box<Value>, Box<Value>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Brackets {
    /// Braces or none: a set.
    Set,
    /// A tuple or an interval.
    Pair(char, char),
    Matrix,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Unequal,
}

/// A place in a text that may hold the answer.
struct Candidate {
    start: usize,
    end: usize,
    found: Found,
}

enum Found {
    /// LaTeX formulas, joined.
    Formulas(Vec<String>),
    /// A plain calculation.
    Calculation(String),
    /// A plain number: digits and the point.
    Number(String),
}

const EXPRESSION: &str = r"(?:(?:^|\s|=)(?:\*\*)?(?P<expr>-?\(?-?\d[\d.\s+\-*×/^()÷]*[+\-*×/^()÷][\d.\s+\-*×/^()÷]+\)?)(?:\*\*)?(?:\.|,|:|\s|\)|\$|$))";
const NUMBER: &str = r"(?:(?:^|\s|=)(?:\*\*)?[$€£¥₹]?(?:(?P<grouped>-?[1-9]\d{0,2}(?:[ ,]\d{3})+)(?P<after>\.\d+)?|(?P<whole>-?\d+)(?P<part>[.,]\d+)|(?P<point>\.\d+)|(?P<integer>-?\d+)))";

struct Patterns {
    /// Of plain numbers and calculations, by certainty.
    plain: [Vec<Regex>; 5],
    /// What stands before a formula, by certainty; the last kind needs nothing.
    anchors: [Regex; 4],
    hope: Regex,
    join: Regex,
    is: Regex,
}

static PATTERNS: LazyLock<Patterns> = LazyLock::new(|| {
    let pattern = |text: String| text::pattern(&text);
    let either = format!("(?:{EXPRESSION}|{NUMBER})");
    Patterns {
        plain: [
            vec![pattern(format!(
                r"(?i:final answer is):?\s*{either}\.?\s?I hope"
            ))],
            vec![pattern(format!(
                r"(?i:final answer.{{0,100}}?)\s+is:?{either}"
            ))],
            vec![pattern(format!(
                r"(?i:answer):(?:.{{0,100}}=\s*|.{{0,50}}?){either}"
            ))],
            vec![pattern(format!(
                r"(?i:answer)(?:.{{0,100}}=\s*|.{{0,50}}?){either}"
            ))],
            vec![pattern(EXPRESSION.to_owned()), pattern(NUMBER.to_owned())],
        ],
        anchors: [
            text::pattern(r"(?i)final answer is:?\s*"),
            text::pattern(r"(?i)final answer"),
            text::pattern(r"(?i)answer:"),
            text::pattern(r"(?i)answer"),
        ],
        hope: text::pattern(r"^\s*(?:\\?%|[Pp]ercent)?\.?\s?I hope"),
        join: text::pattern(r"^\s*(?:,?and|,?or|,)\s*"),
        is: text::pattern(r"\s+is:?\s*"),
    }
});

fn extract(text: &str) -> Extracted {
    let mut spelling = None;
    for certainty in 0..PATTERNS.plain.len() {
        let mut candidates = candidates(text, certainty);
        candidates.sort_by_key(|candidate| (std::cmp::Reverse(candidate.end), candidate.start));
        for candidate in candidates {
            let (value, spelled) = read(&candidate.found);
            if spelling.is_none() && !spelled.is_empty() {
                spelling = Some(spelled);
            }
            if value.is_some() {
                return Extracted {
                    value,
                    text: spelling,
                };
            }
        }
    }
    Extracted {
        value: None,
        text: spelling,
    }
}

fn candidates(text: &str, certainty: usize) -> Vec<Candidate> {
    let patterns = PATTERNS.plain.get(certainty).into_iter().flatten();
    let mut candidates: Vec<Candidate> = patterns
        .flat_map(|pattern| pattern.captures_iter(text))
        .filter_map(|captures| plain(text, certainty, &captures))
        .collect();
    match certainty {
        0 => candidates.extend(anchored(text, 0, |end| {
            let found = formulas_at(text, end)?;
            let rest = text.get(found.end..)?;
            PATTERNS.hope.is_match(rest).then_some(found)
        })),
        1 => {
            candidates.extend(anchored(text, 1, |end| {
                let window = text.get(end..ceil_boundary(text, end + 110))?;
                let mut is = PATTERNS.is.find_iter(window);
                is.find_map(|is| formulas_at(text, end + is.end()))
            }));
            candidates.extend(boxed(text));
        }
        2 | 3 => candidates.extend(anchored(text, certainty, |end| {
            let window = text.get(end..ceil_boundary(text, end + 50))?;
            let mut places = window.char_indices();
            places.find_map(|(offset, _)| formulas_at(text, end + offset))
        })),
        _ => {
            let mut at = 0;
            while at < text.len() {
                match text.get(at..).and_then(|_| formulas_at(text, at)) {
                    Some(found) => {
                        at = found.end;
                        candidates.push(found);
                    }
                    None => at += 1,
                }
            }
        }
    }
    candidates
}

fn ceil_boundary(text: &str, at: usize) -> usize {
    let after = (at.min(text.len())..=text.len()).find(|&at| text.is_char_boundary(at));
    after.unwrap_or(text.len())
}

/// What `find` finds after each anchor of a kind.
fn anchored(text: &str, kind: usize, find: impl Fn(usize) -> Option<Candidate>) -> Vec<Candidate> {
    let anchors = PATTERNS.anchors.get(kind).into_iter();
    let anchors = anchors.flat_map(|anchor| anchor.find_iter(text));
    let found = anchors.filter_map(|anchor| {
        let start = anchor.start();
        find(anchor.end()).map(|found| Candidate { start, ..found })
    });
    found.collect()
}

fn plain(text: &str, certainty: usize, captures: &Captures<'_>) -> Option<Candidate> {
    let whole = captures.get(0)?;
    let is_left_side =
        matches!(certainty, 2 | 3) && text.get(whole.end()..)?.trim_start().starts_with('=');
    if is_left_side {
        return None;
    }
    let group = |name| captures.name(name).map(|found| found.as_str());
    let found = if let Some(expression) = group("expr") {
        Found::Calculation(expression.to_owned())
    } else {
        let whole = group("grouped").or(group("whole")).or(group("integer"));
        let part = group("after").or(group("part")).or(group("point"));
        let whole: String = whole
            .unwrap_or_default()
            .chars()
            .filter(|letter| !matches!(letter, ',' | ' '))
            .collect();
        Found::Number(format!(
            "{whole}{}",
            part.unwrap_or_default().replace(',', ".")
        ))
    };
    Some(Candidate {
        start: whole.start(),
        end: whole.end(),
        found,
    })
}

/// Formulas that begin here, joined by commas and words.
fn formulas_at(text: &str, start: usize) -> Option<Candidate> {
    let (first, mut end) = formula_at(text, start)?;
    let mut formulas = vec![first.to_owned()];
    while formulas.len() < MAX_JOINED
        && let Some(join) = PATTERNS.join.find(text.get(end..)?)
        && let Some((next, after)) = formula_at(text, end + join.end())
    {
        formulas.push(next.to_owned());
        end = after;
    }
    Some(Candidate {
        start,
        end,
        found: Found::Formulas(formulas),
    })
}

/// The content of the formula that begins here, and where it ends.
fn formula_at(text: &str, start: usize) -> Option<(&str, usize)> {
    let rest = text.get(start..)?;
    let rest = rest.get(..ceil_boundary(rest, MAX_FORMULA)).unwrap_or(rest);
    let before = text.get(..start)?.chars().next_back();
    let escaped = before == Some('\\');
    let between = |open: &str, close: &str, lines: bool| {
        let inner = rest.strip_prefix(open)?;
        let mut from = inner.chars().next()?.len_utf8();
        loop {
            let at = from + inner.get(from..)?.find(close)?;
            let content = inner.get(..at)?;
            if !lines && content.contains('\n') {
                return None;
            }
            // Only what begins with a dollar can be escaped.
            if !(close.starts_with('$') && content.ends_with('\\')) {
                return Some((content, start + open.len() + at + close.len()));
            }
            from = at + close.len();
        }
    };
    match rest.as_bytes() {
        [b'$', b'$', ..] if !escaped => between("$$", "$$", true),
        [b'$', ..] if !escaped && !before.is_some_and(|before| before.is_numeric()) => {
            between("$", "$", false).filter(|(content, _)| !content.starts_with('$'))
        }
        [b'\\', b'[', ..] if !escaped => between(r"\[", r"\]", true),
        [b'\\', b'(', ..] if !escaped => between(r"\(", r"\)", false),
        [b'-' | b'\\', ..] => {
            let end = FRACTION.find(rest)?.end();
            Some((rest.get(..end)?, start + end))
        }
        _ => None,
    }
}

static FRACTION: LazyLock<Regex> =
    LazyLock::new(|| text::pattern(r"^-?\\frac\{-?\d+(?:[.,]\d+)?\}\{-?\d+(?:[.,]\d+)?\}"));

/// Boxed answers: within a formula, and from the first box to the last brace of the text.
fn boxed(text: &str) -> Vec<Candidate> {
    let Some(first) = text.find(r"\boxed{") else {
        return Vec::new();
    };
    let mut candidates = Vec::new();
    let mut at = 0;
    while at < text.len() {
        match formula_at(text, at) {
            Some((content, end)) => {
                if content.contains(r"\boxed{") {
                    candidates.push(Candidate {
                        start: at,
                        end,
                        found: Found::Formulas(vec![boxes(content, false)]),
                    });
                }
                at = end;
            }
            None => at += 1,
        }
    }
    if let Some(last) = text
        .rfind('}')
        .filter(|&last| last > first + r"\boxed{".len())
    {
        candidates.push(Candidate {
            start: first,
            end: last + 1,
            found: Found::Formulas(vec![boxes(
                text.get(first..=last).unwrap_or_default(),
                true,
            )]),
        });
    }
    candidates
}

/// The contents of the boxes, joined by commas: all of them, or the last and those that belong to it.
fn boxes(text: &str, last: bool) -> String {
    let mut contents: Vec<&str> = Vec::new();
    let mut end = text.len();
    while let Some((start, width)) = last_box(text, end) {
        let after = start + width;
        let rest = text.get(after..end).unwrap_or_default();
        let (content, close) = match rest.strip_prefix('{').map(|inner| (inner, closing(inner))) {
            Some((inner, Some(close))) => {
                (inner.get(..close).unwrap_or_default().trim(), close + 2)
            }
            _ if contents.is_empty() => (rest, rest.len()),
            _ => break,
        };
        if last && let Some(&known) = contents.last() {
            let between = rest.get(close..).unwrap_or_default();
            let separated = [",", ";", " and ", " or "]
                .iter()
                .any(|word| between.contains(word));
            if !(between.len() < 10 || known != content && between.len() < 70 && separated) {
                break;
            }
        }
        if contents.last() != Some(&content) {
            contents.push(content);
        }
        if contents.len() > MAX_ITEMS {
            break;
        }
        end = start;
    }
    if contents.is_empty() {
        return text.to_owned();
    }
    contents.reverse();
    contents.join(",")
}

fn last_box(text: &str, end: usize) -> Option<(usize, usize)> {
    let text = text.get(..end)?;
    let found = [r"\boxed", r"\fbox"]
        .into_iter()
        .filter_map(|command| Some((text.rfind(command)?, command.len())));
    found.max()
}

/// Where the brace closes that was opened before this text.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 1_usize;
    for (at, letter) in text.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

/// The value of what was found, and how it is spelled.
fn read(found: &Found) -> (Option<Value>, String) {
    match found {
        Found::Number(number) => {
            let (whole, part) = number.split_once('.').unwrap_or((number, ""));
            let (sign, whole) = match whole.strip_prefix('-') {
                Some(whole) => (-1, whole),
                None => (1, whole),
            };
            let value = Rational::decimal(if whole.is_empty() { "0" } else { whole }, part)
                .and_then(|value| value.times(Rational::new(sign, 1)?));
            let value = value.map(|value| {
                Value::Scalar(Expression::Number {
                    value,
                    decimal: !part.is_empty(),
                })
            });
            (value, number.clone())
        }
        Found::Calculation(text) => {
            let value = expression::parse(text, Dialect::Verify).map(Value::Scalar);
            (value, text.clone())
        }
        Found::Formulas(formulas) => {
            let spelled: Vec<String> = formulas.iter().map(|formula| plainly(formula)).collect();
            let values: Option<Vec<Value>> = spelled.iter().map(|text| value(text, 0)).collect();
            let value = values.and_then(|mut values| {
                if values.len() > 1 {
                    Some(Value::List(Brackets::Set, values))
                } else {
                    values.pop()
                }
            });
            (value, spelled.join(" and "))
        }
    }
}

/// Replacements that leave the meaning, in this order.
static PLAINLY: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    [
        (r"\\m?left(\\\{|[\[({|.]|\\[a-z]+)", "${1}"),
        (r"\\m?right(\\\}|[\])}|.]|\\[a-z]+)", "${1}"),
        (r#"\\mathrm\{th\}|\\!\s*|\\text\s*\{\s*\}|\\\$|\$|["]|\\displaystyle"#, ""),
        (r"\\math(?:rm|it|bf)\b", r"\text"),
        (r"\\text(?:normal|bf|it|rm)\b|\\mbox\b", r"\text"),
        (r"\\[dtc]frac\b", r"\frac"),
        (r"\s*\{\s*,\s*\}", ","),
        (r",?\s*\\text\{\s*(?:and|or)\s*\}", ","),
        (r"(^|[^a-zA-Z\\]),?\s*\b(?:and|or)\b", "${1},"),
        (r"\\\s|\n|\t", " "),
        (r"\s*\b(?:percentage|percent|pct)\b|\\text\{(?:percentage|percent|pct)\}|\\?%", ""),
        (r"\^\s*(?:\\circ\b|\{\s*\\circ\s*\})|\\degree\b", ""),
        (r"^(.*\S)\s*\\text\s*\{[^{}]*\}(?:\^\d|\^\{\d\})?$", "${1}"),
        (r"(\d|\}|\s)\s*(?:integer|feet|digit|pound|meal|edge|student|mile|degree|square unit|unit|inch|cent|gallon|coin|mark|hour|minute|second|day|week|month|year|cm|km|mm|kg|mph|ft|m|g|meter|square|point|dollar|way)(?:s|es)?\s*$", "${1}"),
        (r"\^\s?\(([^()]*)\)", "^{${1}}"),
        (r"\\sqrt\s*([^\s{\[])", r"\sqrt{${1}}"),
        (r"\\frac\s*([^\s{])\s*([^\s{])", r"\frac{${1}}{${2}}"),
        (r"\\frac\s*([^\s{])\s*\{", r"\frac{${1}}{"),
        (r"(\\frac\s*\{[^{}]*\})\s*(\d)", "${1}{${2}}"),
        (r"^\.", "0."),
    ]
    .into_iter()
    .map(|(pattern, replacement)| (text::pattern(pattern), replacement))
    .collect()
});

/// A formula without dress.
fn plainly(formula: &str) -> String {
    let mut text = if formula.contains(r"\boxed") {
        boxes(formula, false)
    } else {
        formula.to_owned()
    };
    for (pattern, replacement) in PLAINLY.iter() {
        if let std::borrow::Cow::Owned(changed) = pattern.replace_all(&text, *replacement) {
            text = changed;
        }
    }
    text.trim().to_owned()
}

static THOUSANDS: LazyLock<Regex> =
    LazyLock::new(|| text::pattern(r"^-?\d{1,3}(?:,\d{3})+(?:\.\d+)?$"));

fn value(text: &str, depth: usize) -> Option<Value> {
    let text = text.trim().trim_end_matches(['.', ',']).trim();
    if text.is_empty() || text.len() > MAX_FORMULA || depth > MAX_DEPTH {
        return None;
    }
    if let Some(word) = word(text) {
        return Some(Value::Word(word));
    }
    let within = |text: &str| value(text, depth + 1);
    if let Some(relation) = relation(text) {
        let (comparison, left, right) = relation?;
        let sides = (Box::new(within(left)?), Box::new(within(right)?));
        return Some(Value::Relation(comparison, sides.0, sides.1));
    }
    let items = split(text, ',');
    if items.len() > 1 && !THOUSANDS.is_match(text) {
        return list(Brackets::Set, items, depth);
    }
    if let Some(inner) = text
        .strip_prefix(r"\{")
        .and_then(|it| it.strip_suffix(r"\}"))
    {
        return list(Brackets::Set, split(inner, ','), depth);
    }
    let mut letters = text.chars();
    if let (Some(open @ ('(' | '[')), Some(close @ (')' | ']'))) =
        (letters.next(), letters.next_back())
    {
        let items = split(letters.as_str(), ',');
        if items.len() > 1 && closes_at_end(text) {
            return list(Brackets::Pair(open, close), items, depth);
        }
    }
    if let Some(matrix) = matrix(text, depth) {
        return matrix;
    }
    if let Some((before, after)) = text
        .split_once(r"\pm")
        .filter(|(_, after)| !after.contains(r"\pm"))
    {
        let both = [format!("{before}+{after}"), format!("{before}-{after}")];
        return list(
            Brackets::Set,
            both.iter().map(String::as_str).collect(),
            depth,
        );
    }
    expression::parse(text, Dialect::Verify).map(Value::Scalar)
}

fn list(brackets: Brackets, items: Vec<&str>, depth: usize) -> Option<Value> {
    if items.len() > MAX_ITEMS {
        return None;
    }
    let items: Option<Vec<Value>> = items
        .into_iter()
        .map(|item| value(item, depth + 1))
        .collect();
    Some(Value::List(brackets, items?))
}

/// Two letters or more and nothing else, with or without `\text{}`, as small letters.
fn word(text: &str) -> Option<String> {
    let inner = text
        .strip_prefix(r"\text{")
        .and_then(|rest| rest.strip_suffix('}'));
    let word: String = inner.unwrap_or(text).split_whitespace().collect();
    let is_word = word.len() > 1 && word.bytes().all(|byte| byte.is_ascii_alphabetic());
    is_word.then(|| word.to_ascii_lowercase())
}

fn matrix(text: &str, depth: usize) -> Option<Option<Value>> {
    let inner = text.strip_prefix(r"\begin{")?;
    let (kind, inner) = inner
        .split_once('}')
        .filter(|(kind, _)| kind.ends_with("matrix"))?;
    let inner = inner.strip_suffix(&format!(r"\end{{{kind}}}"))?;
    let rows = inner.trim().trim_end_matches(r"\\").split(r"\\");
    let rows: Option<Vec<Value>> = rows
        .take(MAX_ITEMS)
        .map(|row| list(Brackets::Matrix, row.split('&').collect(), depth))
        .collect();
    Some(rows.map(|rows| Value::List(Brackets::Matrix, rows)))
}

/// The parts of a text between separators outside of brackets.
fn split(text: &str, separator: char) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut depth, mut start) = (0_i32, 0);
    for (at, letter) in text.char_indices() {
        match letter {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            letter if letter == separator && depth == 0 => {
                parts.push(text.get(start..at).unwrap_or_default());
                start = at + letter.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(text.get(start..).unwrap_or_default());
    parts
}

/// Does the first bracket close at the end alone?
fn closes_at_end(text: &str) -> bool {
    let mut depth = 0_i32;
    for (at, letter) in text.char_indices() {
        match letter {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + letter.len_utf8() == text.len();
        }
    }
    false
}

const COMPARISONS: [(&str, Comparison); 13] = [
    (r"\leqslant", Comparison::LessOrEqual),
    (r"\geqslant", Comparison::GreaterOrEqual),
    (r"\leq", Comparison::LessOrEqual),
    (r"\geq", Comparison::GreaterOrEqual),
    (r"\neq", Comparison::Unequal),
    (r"\left", Comparison::Equal),
    (r"\le", Comparison::LessOrEqual),
    (r"\ge", Comparison::GreaterOrEqual),
    (r"\ne", Comparison::Unequal),
    (r"\in", Comparison::Equal),
    ("=", Comparison::Equal),
    ("<", Comparison::Less),
    (">", Comparison::Greater),
];

/// The sides of an equation or inequality; `Some(None)` for chains of inequalities, which are not read. Of a chain of
/// equations the first side and the last are kept.
#[expect(
    clippy::option_option,
    reason = "none, an unreadable or a readable one"
)]
fn relation(text: &str) -> Option<Option<(Comparison, &str, &str)>> {
    let (mut depth, mut found) = (0_i32, Vec::new());
    for (at, letter) in text.char_indices() {
        match letter {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            '\\' | '=' | '<' | '>' if depth == 0 => {
                let rest = text.get(at..).unwrap_or_default();
                let sign = COMPARISONS.iter().find(|(sign, _)| {
                    let after = rest.strip_prefix(sign);
                    after.is_some_and(|after| {
                        !sign.starts_with('\\')
                            || !after.starts_with(|next: char| next.is_ascii_alphabetic())
                    })
                });
                if let Some((sign, comparison)) = sign {
                    found.push((at, at + sign.len(), *comparison));
                }
            }
            _ => {}
        }
    }
    let (first, last) = (found.first()?, found.last()?);
    let chained = found.len() > 1 && found.iter().any(|(_, _, it)| *it != Comparison::Equal);
    let sides = text.get(..first.0).zip(text.get(last.1..));
    Some(
        sides
            .filter(|_| !chained)
            .map(|(left, right)| (first.2, left, right)),
    )
}

fn same(gold: &Value, answer: &Value) -> bool {
    use Value::{List, Relation, Scalar, Word};
    let is_equation = |value: &Value| matches!(value, Relation(Comparison::Equal, ..));
    match (gold, answer) {
        (gold, Relation(Comparison::Equal, _, right)) if !is_equation(gold) => same(gold, right),
        (Relation(Comparison::Equal, left, right), answer) if !is_equation(answer) => {
            is_assigned(left) && same(right, answer)
        }
        (Relation(kind, left, right), Relation(other, answer_left, answer_right)) => {
            let straight = kind == other
                && (same(left, answer_left) && same(right, answer_right)
                    || same_difference((left, right), (answer_left, answer_right)));
            let flipped = flip(*kind) == *other
                && same_difference((left, right), (answer_right, answer_left));
            straight || flipped
        }
        (List(kind, gold), List(other, answer)) => match (kind, other) {
            (Brackets::Set, Brackets::Set) => same_set(gold, answer),
            (Brackets::Set, Brackets::Pair('(', ')'))
            | (Brackets::Pair('(', ')'), Brackets::Set) => same_list(gold, answer),
            (kind, other) => kind == other && same_list(gold, answer),
        },
        (List(Brackets::Set, items), single) | (single, List(Brackets::Set, items)) => {
            !items.is_empty() && items.iter().all(|item| same(item, single))
        }
        (Scalar(gold), Scalar(answer)) => same_scalar(gold, answer),
        (Word(gold), Word(answer)) => gold == answer,
        _ => false,
    }
}

/// Is the left side of an equation a name, so that the right one says its value?
fn is_assigned(left: &Value) -> bool {
    match left {
        Value::Word(_) => true,
        Value::Scalar(Expression::Symbol(_)) => true,
        Value::Scalar(Expression::Binary(Operator::Multiply, name, argument)) => {
            matches!(**name, Expression::Symbol(_)) && matches!(**argument, Expression::Symbol(_))
        }
        Value::List(_, items) => items.iter().all(is_assigned),
        _ => false,
    }
}

fn flip(comparison: Comparison) -> Comparison {
    match comparison {
        Comparison::Less => Comparison::Greater,
        Comparison::LessOrEqual => Comparison::GreaterOrEqual,
        Comparison::Greater => Comparison::Less,
        Comparison::GreaterOrEqual => Comparison::LessOrEqual,
        same => same,
    }
}

fn same_difference(gold: (&Value, &Value), answer: (&Value, &Value)) -> bool {
    let difference = |(left, right): (&Value, &Value)| match (left, right) {
        (Value::Scalar(left), Value::Scalar(right)) => Some(Expression::Binary(
            Operator::Subtract,
            Box::new(left.clone()),
            Box::new(right.clone()),
        )),
        _ => None,
    };
    matches!((difference(gold), difference(answer)), (Some(gold), Some(answer)) if equal::same_value(&gold, &answer))
}

fn same_list(gold: &[Value], answer: &[Value]) -> bool {
    gold.len() == answer.len()
        && gold
            .iter()
            .zip(answer)
            .all(|(gold, answer)| same(gold, answer))
}

/// Each of either set is in the other.
fn same_set(gold: &[Value], answer: &[Value]) -> bool {
    gold.iter()
        .all(|item| answer.iter().any(|other| same(item, other)))
        && answer
            .iter()
            .all(|item| gold.iter().any(|other| same(other, item)))
}

fn same_scalar(gold: &Expression, answer: &Expression) -> bool {
    let is_decimal = |value: &Expression| matches!(value, Expression::Number { decimal: true, .. });
    let constant = |value: &Expression| {
        (!expression::has_symbol(value))
            .then(|| equal::evaluate(value, 0))
            .flatten()
    };
    if (is_decimal(gold) || is_decimal(answer))
        && let (Some(gold), Some(answer)) = (constant(gold), constant(answer))
    {
        let rounded = |value: Complex| (value.scaled(1e6).re.round(), value.scaled(1e6).im.round());
        return rounded(gold) == rounded(answer);
    }
    let is_infinite = |value: &Expression| match value {
        Expression::Infinity => true,
        Expression::Negative(inner) => **inner == Expression::Infinity,
        _ => false,
    };
    (is_infinite(gold) && gold == answer) || equal::same_value(gold, answer)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;

    /// What math-verify 0.9 says of the same pairs.
    #[test]
    fn answers_are_compared_by_value() {
        let verify =
            |gold: &str, answer: &str| verify(&format!("${gold}$"), &format!("${answer}$"));
        for (gold, answer) in [
            ("7,9", "9,7"),
            ("(7,9)", "7,9"),
            (r"\{1,2\}", "1,2"),
            ("0.5", r"\frac12"),
            ("1/3", "0.333333"),
            (r"50\%", "50"),
            ("x=5", "5"),
            ("5", "x=5"),
            ("x(x+1)", "x^2+x"),
            (r"\text{Friday}", "friday"),
            (r"1\pm2", "3,-1"),
            ("x>3", "3<x"),
            ("y=2x+3", "2x+3"),
            ("y=2x+3", "y-2x=3"),
            ("4343_6", "4343"),
            (r"\frac{\sqrt{2}}{2}", r"1/\sqrt{2}"),
            ("[2,5)", r"\left[2,5\right)"),
            (
                r"\begin{pmatrix}1\\2\end{pmatrix}",
                r"\begin{pmatrix}1\\2.0\end{pmatrix}",
            ),
            (r"2\frac{1}{2}", "5/2"),
            (r"90^\circ", "90"),
            (r"5\text{ cm}", "5"),
            (r"\pi", "3.141593"),
            ("e^{i\\pi}", "-1"),
        ] {
            assert!(verify(gold, answer), "{gold} = {answer}");
        }
        for (gold, answer) in [
            ("(7,9)", "(9,7)"),
            ("1/3", "0.3333"),
            (r"50\%", "0.5"),
            ("x=5", "y=5"),
            ("(2,5)", "[2,5]"),
            ("12", "12.00001"),
            (r"\pi", "3.14159"),
            ("(1,2)", "1<x<2"),
            ("5", "2(5)/2"),
        ] {
            assert!(!verify(gold, answer), "{gold} != {answer}");
        }
    }

    #[test]
    fn the_most_certain_place_counts() {
        let gold = r"So it is $\boxed{2}$.";
        for (answer, expected) in [
            (
                "Final Answer: The final answer is $2$. I hope it is correct. Not $3$.",
                true,
            ),
            (
                "Final Answer: The final answer is 2. I hope it is correct.",
                true,
            ),
            ("Final Answer: The final answer is $2", true),
            (r"First $3$, then \boxed{2}, then $4$.", true),
            ("The answer is 2. There were 5.", true),
            ("There were 5, so 2", true),
            ("There were 2, so 5", false),
            ("The final answer is $3$. Not $2$.", false),
            ("two", false),
            ("", false),
        ] {
            assert_eq!(verify(gold, answer), expected, "{answer}");
        }
    }

    #[test]
    fn endless_repetitions_end() {
        let start = Instant::now();
        for text in [
            "$",
            "$$",
            r"\[",
            r"\boxed{",
            r"\boxed{1} ",
            "answer ",
            "answer: $",
            "final answer is ",
            "1 ",
            "1+",
            "$1$, ",
            "(",
            r"$\frac{1}{",
            "=",
            "a,",
            "{",
            "}",
            r"\text{",
        ] {
            let long = text.repeat(100_000 / text.len());
            assert!(!verify(r"$\boxed{7}$", &long), "{text}");
            println!("{text} {:?}", start.elapsed());
        }
        assert!(start.elapsed() < Duration::from_secs(20));
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(text in r"([a-d0-9(){}\[\]|+*/^_!,.=<é $\n-]|\\frac|\\boxed\{|\\pm|\\text\{|\\\[|\\\(|answer is|\\begin\{pmatrix\}){0,30}") {
            let _ = verify(r"$\boxed{7}$", &text);
            let _ = verify(&text, &text);
        }
    }
}
