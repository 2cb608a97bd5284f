//! lm-eval's metric `exact_match` and its filter `regex` (0.4.13: `api/metrics.py`, `filters/extraction.py`).

use regex::Regex;

use crate::text;

/// What the filter gives where its pattern matches nothing.
pub(crate) const INVALID: &str = "[invalid]";

/// Settings of the metric. All benchmarks here ignore case.
#[derive(Clone, Copy)]
pub(crate) struct ExactMatch {
    /// Deletes what `regexes_to_ignore` match.
    pub(crate) ignore: fn(&str) -> String,
    /// `ignore_punctuation`.
    pub(crate) ignore_punctuation: bool,
}

impl ExactMatch {
    /// Does the answer equal any of the right ones?
    pub(crate) fn any(self, answer: &str, gold: &[String]) -> bool {
        let answer = self.normalize(answer);
        gold.iter().any(|gold| self.normalize(gold) == answer)
    }

    fn normalize(self, text: &str) -> String {
        let mut text = (self.ignore)(text).to_lowercase();
        if self.ignore_punctuation {
            text.retain(|letter| !letter.is_ascii_punctuation());
        }
        text
    }
}

/// Which of several matches a filter takes (`group_select` 0 or -1).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Select {
    First,
    Last,
}

/// The filter: the first group that is not empty, or the whole match where there are no groups, of the selected match.
pub(crate) fn extract(pattern: &Regex, select: Select, text: &str) -> String {
    let mut matches = pattern.captures_iter(text);
    let chosen = match select {
        Select::First => matches.next(),
        Select::Last => matches.last(),
    };
    let Some(captures) = chosen else {
        return INVALID.to_owned();
    };
    let mut groups = captures.iter().skip(1).flatten();
    let group = groups.find(|group| !group.is_empty());
    match group.or(captures.get(0).filter(|_| captures.len() == 1)) {
        Some(group) => text::strip(group.as_str()).to_owned(),
        None => INVALID.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn the_first_group_that_is_not_empty_of_the_selected_match() {
        let pattern = text::pattern(r"(x+)|(y+)");
        assert_eq!(extract(&pattern, Select::First, "a yy xxx"), "yy");
        assert_eq!(extract(&pattern, Select::Last, "a yy xxx b"), "xxx");
        assert_eq!(extract(&pattern, Select::Last, "a"), INVALID);
        assert_eq!(extract(&text::pattern(r" z+"), Select::First, "a zz"), "zz");
    }
}
