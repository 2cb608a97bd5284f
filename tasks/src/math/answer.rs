//! Where an answer stands in a solution, and the normal form in which answers are compared.
//!
//! The normal form is that of Lewkowycz et al. 2022, appendix D, as lm-eval 0.4.13 has it
//! (`minerva_math/utils.py`), which mends it where the original's replacements break LaTeX commands.

use std::sync::LazyLock;

use regex::Regex;

use crate::text;

/// What lm-eval compares where a completion states no answer.
pub(super) const INVALID: &str = "[invalidanswer]";

const END: &str = "I hope it is correct.";

static STATED: LazyLock<Regex> = LazyLock::new(|| {
    text::pattern(r"Final Answer: The final answer is(.*?). I hope it is correct.")
});
/// The units among [`REMOVED`], where they are words of their own.
static UNIT_WORDS: LazyLock<Regex> = LazyLock::new(|| {
    text::pattern(
        r"\b(?:square|ways|integers|dollars|mph|inches|ft|hours|km|units|sue|points|feet|minutes|digits|cents|degrees|cm|gm|pounds|meters|meals|edges|students|childrentickets|multiples)\b",
    )
});
static COMMAND: LazyLock<Regex> = LazyLock::new(|| text::pattern(r"\\[a-zA-Z]+"));
static THOUSANDS: LazyLock<Regex> = LazyLock::new(|| text::pattern(r"^-?\d{1,3}(?:,\d{3})+$"));

const SUBSTITUTED: [(&str, &str); 10] = [
    ("an ", ""),
    ("a ", ""),
    (".$", "$"),
    ("\\$", ""),
    ("\\ ", ""),
    (" ", ""),
    ("mbox", "text"),
    (",\\text{and}", ","),
    ("\\text{and}", ","),
    ("\\text{m}", "\\text{}"),
];

/// In this order. Those of letters alone are kept where they are part of a command, as `ft` of `\left`.
const REMOVED: [&str; 42] = [
    "square",
    "ways",
    "integers",
    "dollars",
    "mph",
    "inches",
    "ft",
    "hours",
    "km",
    "units",
    "\\ldots",
    "sue",
    "points",
    "feet",
    "minutes",
    "digits",
    "cents",
    "degrees",
    "cm",
    "gm",
    "pounds",
    "meters",
    "meals",
    "edges",
    "students",
    "childrentickets",
    "multiples",
    "\\text{s}",
    "\\text{.}",
    "\\text{\ns}",
    "\\text{}^2",
    "\\text{}^3",
    "\\text{\n}",
    "\\text{}",
    "\\mathrm{th}",
    "^\\circ",
    "^{\\circ}",
    "\\;",
    ",\\!",
    "{,}",
    "\"",
    "\\dots",
];

/// Patterns and what takes their place, in this order: what is in dollars, bold or boxed alone is the answer; LaTeX
/// shorthands are written out.
static REWRITTEN: LazyLock<[(Regex, &str); 8]> = LazyLock::new(|| {
    [
        (text::pattern(r".*?\$(.*?)\$.*"), "$$${1}$$"),
        (text::pattern(r"\\text\{(.*?)\}"), "${1}"),
        (text::pattern(r"\\textbf\{(.*?)\}"), "${1}"),
        (text::pattern(r"\\overline\{(.*?)\}"), "${1}"),
        (text::pattern(r"\\boxed\{(.*)\}"), "${1}"),
        (text::pattern(r"frac([^{])(.)"), "frac{${1}}{${2}}"),
        (text::pattern(r"sqrt(\[[^\]]*\])(\w)"), "sqrt${1}{${2}}"),
        (text::pattern(r"sqrt([^{\[])"), "sqrt{${1}}"),
    ]
});

/// The answer a completion states in Minerva's sentence. The sentence's end is taken as said, so that a completion
/// may stop before it.
pub(super) fn stated(completion: &str) -> Option<String> {
    let text = format!("{completion}{END}");
    let captures = STATED.captures(&text)?;
    Some(text::strip(captures.get(1)?.as_str()).to_owned())
}

/// What stands in the last `\boxed{}` of a solution.
pub(super) fn boxed(solution: &str) -> Option<&str> {
    if let Some((_, rest)) = solution.rsplit_once("\\boxed ") {
        return rest.split('$').next();
    }
    let (_, rest) = solution.rsplit_once("\\boxed")?;
    let inner = rest.strip_prefix('{')?;
    let mut depth = 1_usize;
    for (at, letter) in inner.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return inner.get(..at);
        }
    }
    None
}

/// The normal form.
pub(super) fn normalize(answer: &str) -> String {
    let mut text = answer
        .rsplit('=')
        .next()
        .map(without_unit_words)
        .unwrap_or_default();
    for (from, to) in SUBSTITUTED {
        text = text.replace(from, to);
    }
    for expression in REMOVED {
        if !text.contains(expression) {
            continue;
        }
        text = if expression.bytes().all(|byte| byte.is_ascii_alphabetic()) {
            without_unit(&text, expression)
        } else {
            text.replace(expression, "")
        };
    }
    for (pattern, replacement) in REWRITTEN.iter() {
        text = pattern.replace_all(&text, *replacement).into_owned();
    }
    text = text.replace('$', "");
    if THOUSANDS.is_match(&text) {
        text = text.replace(',', "");
    }
    text
}

fn without_unit_words(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut end = 0;
    for found in UNIT_WORDS.find_iter(text) {
        let before = text.get(..found.start()).unwrap_or_default();
        if !before.ends_with('\\') {
            kept.push_str(text.get(end..found.start()).unwrap_or_default());
            end = found.end();
        }
    }
    kept + text.get(end..).unwrap_or_default()
}

/// Without a unit anywhere but in the names of commands.
fn without_unit(text: &str, unit: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut end = 0;
    for command in COMMAND.find_iter(text) {
        let between = text.get(end..command.start()).unwrap_or_default();
        kept.push_str(&between.replace(unit, ""));
        kept.push_str(command.as_str());
        end = command.end();
    }
    kept + &text.get(end..).unwrap_or_default().replace(unit, "")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use proptest::prelude::*;

    use super::*;

    /// The appendix's own comments (shorthand TeX, thousands), its lists, and lm-eval's notes on what it mends.
    #[test]
    fn normal_forms() {
        let table = [
            // Shorthand TeX.
            (r"\frac12", r"\frac{1}{2}"),
            (r"\frac{abc}{bef}", r"\frac{abc}{bef}"),
            (r"\frac123", r"\frac{1}{2}3"),
            (r"\sqrt2", r"\sqrt{2}"),
            (r"\sqrt23", r"\sqrt{2}3"),
            (r"\sqrt[3]8", r"\sqrt[3]{8}"),
            (r"\sqrt[3]{8}", r"\sqrt[3]{8}"),
            (r"\dfrac{1}{2}", r"\dfrac{1}{2}"),
            // What is marked as the answer.
            (r"the answer is $x=5$", "5"),
            (r"about $5$ or so", "5"),
            (r"\text{Friday}", "Friday"),
            (r"\textbf{5}", "5"),
            (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
            (r"\overline{AB}", "AB"),
            ("x = y = 7", "7"),
            // Words and units.
            (r"5\text{ cm}", "5"),
            ("5 square feet", "5"),
            ("2\\pi cm", "2\\pi"),
            (r"\left(1,2\right)", r"\left(1,2\right)"),
            (r"90^\circ", "90"),
            (r"90^{\circ}", "90"),
            (r"\$5.50", "5.50"),
            (r"12\text{ cm}^2", "12"),
            (r"1,\text{and}2", "1,2"),
            ("an apple", "apple"),
            // Thousands.
            ("100,000", "100000"),
            ("-1,234,567", "-1234567"),
            (r"11,\!111,\!100", "11111100"),
            ("1{,}000", "1000"),
            ("0,1", "0,1"),
            ("(1,234)", "(1,234)"),
            ("", ""),
        ];
        for (answer, expected) in table {
            assert_eq!(normalize(answer), expected, "{answer}");
        }
    }

    #[test]
    fn answers_are_stated_in_one_sentence() {
        let sentence = |answer: &str| {
            format!("So.\nFinal Answer: The final answer is {answer}. I hope it is correct.")
        };
        assert_eq!(stated(&sentence("$5$")).as_deref(), Some("$5$"));
        assert_eq!(
            stated("Final Answer: The final answer is $5$. ").as_deref(),
            Some("$5$")
        );
        let two = sentence("1") + &sentence("2");
        assert_eq!(stated(&two).as_deref(), Some("1"));
        for nothing in [
            "",
            "5",
            "Final Answer: The final answer is $5$",
            "Final Answer: The final answer is\n$5$. I hope it is correct.",
        ] {
            assert_eq!(stated(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn the_last_box_counts() {
        for (solution, expected) in [
            (
                r"$\boxed{1}$ or $\boxed{\frac{1}{2}}$.",
                Some(r"\frac{1}{2}"),
            ),
            (r"$\boxed 5$ x", Some("5")),
            (r"$\boxed{5$", None),
            (r"\boxed5", None),
            (r"\boxed}5", None),
            ("5", None),
        ] {
            assert_eq!(boxed(solution), expected, "{solution}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(text in r"(\\boxed|\\text|\\frac|sqrt|[{}\[\]$=,. a\n0-9é]){0,40}") {
            let _ = (stated(&text), boxed(&text), normalize(&text));
        }
    }
}
