//! Prompt templates, Python's string functions where texts must equal lm-eval's to the byte, and the rules by
//! which short answers are cut and compared.

use std::{fmt::Write as _, sync::LazyLock};

use regex::Regex;

static ARTICLES: LazyLock<Regex> = LazyLock::new(|| pattern(r"\b(?:a|an|the)\b"));

/// A regular expression of the program's own.
#[expect(
    clippy::expect_used,
    reason = "the patterns are constants, each used by a test"
)]
pub(crate) fn pattern(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a constant pattern is well formed")
}

/// Fills every `{name}` of a template with what `field` gives for it. One pass: braces in the data stay as they are.
pub(crate) fn fill<'a>(template: &'a str, field: impl Fn(&str) -> Option<&'a str>) -> String {
    let mut text = String::with_capacity(template.len() * 2);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        text.push_str(before);
        rest = match after
            .split_once('}')
            .and_then(|(name, after)| Some((field(name)?, after)))
        {
            Some((value, after)) => {
                text.push_str(value);
                after
            }
            None => {
                text.push('{');
                after
            }
        };
    }
    text.push_str(rest);
    text
}

/// Python's `str.isspace`: U+001C to U+001F are white space there.
pub(crate) fn is_space(letter: char) -> bool {
    letter.is_whitespace() || matches!(letter, '\u{1c}'..='\u{1f}')
}

/// Python's `str.strip`.
pub(crate) fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// How Python writes a list of texts, which is how lm-eval writes several right answers.
pub(crate) fn python_list(texts: &[String]) -> String {
    let quoted: Vec<String> = texts.iter().map(|text| python_repr(text)).collect();
    format!("[{}]", quoted.join(", "))
}

fn python_repr(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    };
    let mut written = String::from(quote);
    for letter in text.chars() {
        match letter {
            '\n' => written.push_str(r"\n"),
            '\r' => written.push_str(r"\r"),
            '\t' => written.push_str(r"\t"),
            '\\' => written.push_str(r"\\"),
            letter if letter == quote => written.extend(['\\', letter]),
            ' ' => written.push(' '),
            letter if letter.is_control() || is_space(letter) || letter == '\u{ad}' => {
                let code = u32::from(letter);
                // Writing to a text cannot fail.
                let _ = match code {
                    0..=0xff => write!(written, "\\x{code:02x}"),
                    _ => write!(written, "\\u{code:04x}"),
                };
            }
            letter => written.push(letter),
        }
    }
    written.push(quote);
    written
}

/// The normal form in which short answers are compared: lower case, without ASCII punctuation, articles and
/// duplicate white space (LLaMA appendix A; the rule and its order are those of SQuAD's evaluation script,
/// Rajpurkar et al. 2016).
pub(crate) fn normalize_answer(text: &str) -> String {
    let mut text = text.to_lowercase();
    text.retain(|letter| !letter.is_ascii_punctuation());
    let text = ARTICLES.replace_all(&text, " ");
    let words: Vec<&str> = text
        .split(is_space)
        .filter(|word| !word.is_empty())
        .collect();
    words.join(" ")
}

/// Up to the first line break.
pub(crate) fn first_line(text: &str) -> &str {
    text.split('\n').next().unwrap_or_default()
}

/// Up to the first dot or comma that ends a phrase: white space or nothing follows it.
pub(crate) fn cut_at_final_dot(text: &str) -> &str {
    let mut letters = text.char_indices().peekable();
    while let Some((at, letter)) = letters.next() {
        let ends = letters.peek().is_none_or(|&(_, next)| is_space(next));
        if matches!(letter, '.' | ',') && ends {
            return text.get(..at).unwrap_or_default();
        }
    }
    text
}

/// Up to the first dot or comma of any kind.
pub(crate) fn cut_at_first_dot(text: &str) -> &str {
    text.split(['.', ',']).next().unwrap_or_default()
}

/// The first letter upper case, the others as they are.
pub(crate) fn capitalize_first(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().into_iter().flat_map(char::to_uppercase);
    let first: String = first.collect();
    first + letters.as_str()
}

/// Python's `str.capitalize`: the first letter upper case, all others lower case.
pub(crate) fn capitalize(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().into_iter().flat_map(char::to_uppercase);
    first
        .chain(letters.as_str().to_lowercase().chars())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fills_once_and_leaves_unknown_names() {
        let field = |name: &str| (name == "a").then_some("{b}");
        assert_eq!(fill("{a}-{b}-{a", field), "{b}-{b}-{a");
    }

    #[test]
    fn capitalizes_and_strips_as_python_does() {
        assert_eq!(capitalize("then Bob"), "Then bob");
        assert_eq!(capitalize(""), "");
        assert_eq!(strip("\u{1f}\u{a0} x \u{3000}\u{85}"), "x");
    }

    /// Worked by hand from the published script's four steps.
    #[test]
    fn answers_are_normalized_as_squad_does() {
        let table = [
            ("The Eiffel Tower.", "eiffel tower"),
            ("  an  apple, a day ", "apple day"),
            ("Theatre of another land", "theatre of another land"),
            ("U.S.A.", "usa"),
            ("the-band", "theband"),
            ("(the) band", "band"),
            ("The the", ""),
            ("14 December 1972 UTC", "14 december 1972 utc"),
            ("a\u{a0}b\u{1c}c", "b c"),
            ("\u{201c}the end\u{201d}", "\u{201c} end\u{201d}"),
            ("\u{c9}COLE", "\u{e9}cole"),
            ("", ""),
        ];
        for (text, expected) in table {
            assert_eq!(normalize_answer(text), expected, "{text}");
        }
    }

    #[test]
    fn answers_are_cut_by_two_readings() {
        let table = [
            (" Paris", " Paris", " Paris"),
            (" Paris. It is", " Paris", " Paris"),
            (" Paris, France", " Paris", " Paris"),
            (" 1,000 or 3.5 km.", " 1,000 or 3.5 km", " 1"),
            (" U.S.A.", " U.S.A", " U"),
            (".", "", ""),
            ("", "", ""),
        ];
        for (text, last, first) in table {
            assert_eq!(cut_at_final_dot(text), last, "{text}");
            assert_eq!(cut_at_first_dot(text), first, "{text}");
        }
        assert_eq!(first_line("a\nb"), "a");
    }

    /// CPython 3.12's `repr` of the same lists.
    #[test]
    fn lists_are_written_as_python_does() {
        let list = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(|&text| text.to_owned()).collect();
            python_list(&texts)
        };
        assert_eq!(list(&["a", "it's"]), r#"['a', "it's"]"#);
        assert_eq!(list(&["'\""]), r#"['\'"']"#);
        assert_eq!(
            list(&["\u{e9}\\\n\u{a0}\u{2009}\u{7f}"]),
            "['\u{e9}\\\\\\n\\xa0\\u2009\\x7f']"
        );
        assert_eq!(list(&[]), "[]");
    }
}
