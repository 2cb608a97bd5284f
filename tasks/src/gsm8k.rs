//! GSM8k: word problems of middle-school mathematics. Evaluated on the test split.
//!
//! Two tasks, as in lm-eval: `gsm8k_cot` shows the eight solutions in words of Wei et al. 2022 (fixed examples,
//! read from lm-eval's `gsm8k/gsm8k-cot.yaml`), `gsm8k` five solutions of the training split, which end in
//! `#### number`. The paper's column is taken for the first: LLaMA says nothing of the prompt, Llama 2 repeats its
//! numbers as "8 shot", and Minerva, whose setup it follows, used those eight.
//!
//! Paper: left open are also the limit of new tokens (512), how the number is read (the first one after "The answer
//! is", or after `####`; equal as decimal numbers, without commas and currency) and the sampling of maj1@100
//! (`majority`).
//! lm-eval: `gsm8k/gsm8k.yaml`, `gsm8k/gsm8k-cot.yaml`.

use std::sync::{Arc, LazyLock};

use llama_eval_model::{Answer, Preamble, Prompt, Request};
use regex::Regex;
use serde_json::json;

use crate::{
    closed_book::LM_EVAL_NEW_TOKENS,
    dataset::{DataDir, DataError, DataFile},
    exact_match::{self, ExactMatch, Select},
    majority::{self, Voting},
    multiple_choice::{self, EXAMPLE_DELIMITER},
    number,
    reader::{self, Record},
    task::{Card, Document, GenerationOptions, Metric, Outcome, Protocol, Sampler, Task, Verdict},
    text,
};

const TEST: &str = "gsm8k/test.jsonl";
const TRAIN: &[&str] = &["gsm8k/train.jsonl"];
const CHAIN_OF_THOUGHT: &str = "prompts/gsm8k-cot.yaml";

/// Before the number in the answers of the dataset.
const MARK: &str = "####";
const PAPER_NEW_TOKENS: usize = 512;
/// The paper's k of maj1@k.
const VOTES: usize = 100;

const GREEDY: Metric = Metric::new(
    "exact_match",
    "the number of the greedy completion is right",
);
const STRICT: Metric = Metric::new(
    "exact_match,strict-match",
    "the first number in the form of the examples, compared as text",
);
const FLEXIBLE: Metric = Metric::new(
    "exact_match,flexible-extract",
    "the last number of the completion, compared as text",
);

/// How a task asks and reads answers.
struct Style {
    prompt: &'static str,
    paper_stop: &'static [&'static str],
    lm_eval_stop: &'static [&'static str],
    /// The number under the paper's protocol, in the first group.
    number: LazyLock<Regex>,
    /// lm-eval's filter `strict-match`.
    strict: LazyLock<Regex>,
}

static SOLUTIONS: Style = Style {
    prompt: "Question: {question}\nAnswer:",
    paper_stop: &["Question:"],
    lm_eval_stop: &["Question:", "</s>", "<|im_end|>"],
    number: LazyLock::new(|| text::pattern(r"####\s*([-$0-9.,]+)")),
    strict: LazyLock::new(|| text::pattern(r"#### (\-?[0-9\.\,]+)")),
};
static WORDS: Style = Style {
    prompt: "Q: {question}\nA:",
    paper_stop: &["Q:"],
    lm_eval_stop: &["Q:", "</s>", "<|im_end|>"],
    number: LazyLock::new(|| text::pattern(r"(?i)the answer is:?\s*([-$0-9.,]+)")),
    strict: LazyLock::new(|| text::pattern(r"The answer is (\-?[0-9\.\,]+).")),
};
/// lm-eval's filter `flexible-extract`.
static ANY_NUMBER: LazyLock<Regex> =
    LazyLock::new(|| text::pattern(r"(-?[$0-9.,]{2,})|(-?[0-9]+)"));
const LM_EVAL: ExactMatch = ExactMatch {
    ignore: without_ignored,
    ignore_punctuation: false,
};

struct Gsm8k {
    card: Card,
    in_words: bool,
    voting: Voting,
    options: GenerationOptions,
}

pub(crate) fn tasks(options: &GenerationOptions) -> Vec<Arc<dyn Task>> {
    let voting = Voting::new(options, VOTES);
    let metrics = [GREEDY]
        .into_iter()
        .chain(voting.metric())
        .chain([STRICT, FLEXIBLE]);
    let in_words = Card {
        name: "gsm8k_cot".to_owned(),
        title: "GSM8k",
        version: 1,
        published: Some(("table7_math", "GSM8k")),
        group: None,
        split: "test",
        documents: 1319,
        shots: 8,
        metrics: metrics.collect(),
        headline: (GREEDY.name, STRICT.name),
        licence: "MIT",
        citation: "Cobbe et al. 2021, Training Verifiers to Solve Math Word Problems, arXiv:2110.14168",
    };
    let solutions = Card {
        name: "gsm8k".to_owned(),
        title: "GSM8k (solutions of the training split)",
        published: None,
        shots: 5,
        ..in_words.clone()
    };
    let task = |card, in_words| -> Arc<dyn Task> {
        Arc::new(Gsm8k {
            card,
            in_words,
            voting,
            options: options.clone(),
        })
    };
    vec![task(in_words, true), task(solutions, false)]
}

impl Gsm8k {
    fn style(&self) -> &'static Style {
        if self.in_words { &WORDS } else { &SOLUTIONS }
    }

    /// The number a completion gives, under the paper's protocol.
    fn number(&self, completion: &str) -> Option<String> {
        let captures = self.style().number.captures(completion)?;
        number::decimal(captures.get(1)?.as_str())
    }
}

impl Task for Gsm8k {
    fn card(&self) -> &Card {
        &self.card
    }

    fn documents(&self, data: &DataDir, _: Protocol) -> Result<Vec<Document>, DataError> {
        documents(&data.read(TEST)?)
    }

    fn examples(&self, data: &DataDir, _: Protocol) -> Result<Vec<Document>, DataError> {
        if self.in_words {
            solutions_in_words(&multiple_choice::read_pool(data, &[CHAIN_OF_THOUGHT])?)
        } else {
            documents(&multiple_choice::read_pool(data, TRAIN)?)
        }
    }

    fn sampler(&self) -> Sampler {
        if self.in_words {
            Sampler::FirstN
        } else {
            Sampler::Random
        }
    }

    fn example(&self, document: &Document, _: Protocol) -> String {
        let prompt = document.fill(self.style().prompt);
        format!("{prompt} {}{EXAMPLE_DELIMITER}", document.text("answer"))
    }

    fn requests(
        &self,
        document: &Document,
        preamble: &Arc<Preamble>,
        protocol: Protocol,
    ) -> Vec<Request> {
        let prompt = Prompt {
            preamble: Arc::clone(preamble),
            question: document.fill(self.style().prompt),
        };
        let seed = self
            .options
            .seed_of(&self.card.name, document.index, "votes");
        let (stop, own_limit) = match protocol {
            Protocol::Paper => (self.style().paper_stop, PAPER_NEW_TOKENS),
            Protocol::LmEval => (self.style().lm_eval_stop, LM_EVAL_NEW_TOKENS),
        };
        let limit = self.options.max_new_tokens.unwrap_or(own_limit);
        self.voting
            .under(protocol)
            .requests(prompt, stop, limit, seed)
    }

    fn target(&self, document: &Document) -> String {
        if self.in_words {
            after_mark(document.text("answer")).to_owned()
        } else {
            document.text("answer").to_owned()
        }
    }

    fn filtered(
        &self,
        _: &Document,
        completion: &str,
        protocol: Protocol,
    ) -> Vec<(&'static str, String)> {
        match protocol {
            Protocol::Paper => {
                let number = self.number(completion);
                vec![(
                    "number",
                    number.unwrap_or_else(|| exact_match::INVALID.to_owned()),
                )]
            }
            Protocol::LmEval => {
                let strict = &self.style().strict;
                vec![
                    (
                        "strict-match",
                        exact_match::extract(strict, Select::First, completion),
                    ),
                    (
                        "flexible-extract",
                        exact_match::extract(&ANY_NUMBER, Select::Last, completion),
                    ),
                ]
            }
        }
    }

    fn score(
        &self,
        document: &Document,
        answers: &[Answer],
        _: &[Vec<Verdict>],
        protocol: Protocol,
    ) -> Outcome {
        let voting = self.voting.under(protocol);
        let completions = match majority::all_completions(answers, voting.expected()) {
            Ok(completions) => completions,
            Err(reason) => return Outcome::Unscored(reason),
        };
        let greedy = completions.first().map(|it| it.text.as_str());
        let greedy = greedy.unwrap_or_default();
        let score = |right| f64::from(u8::from(right));
        Outcome::Scored(match protocol {
            Protocol::Paper => {
                let gold = number::decimal(after_mark(document.text("answer")));
                let right = |number: Option<String>| score(number.is_some() && number == gold);
                let mut scores = vec![(GREEDY.name, right(self.number(greedy)))];
                if let Some(metric) = voting.metric() {
                    let votes = voting.voters(&completions).into_iter();
                    let vote = majority::majority(votes.map(|vote| self.number(&vote.text)));
                    scores.push((metric.name, right(vote)));
                }
                scores
            }
            Protocol::LmEval => {
                let filtered = self.filtered(document, greedy, protocol);
                let gold = [self.target(document)];
                let scored = |(name, (_, answer)): (_, (_, String))| {
                    (name, score(LM_EVAL.any(&answer, &gold)))
                };
                [STRICT.name, FLEXIBLE.name]
                    .into_iter()
                    .zip(filtered)
                    .map(scored)
                    .collect()
            }
        })
    }
}

/// Without what lm-eval ignores: commas, dollars, all up to the last `#### `, and a dot at the end.
fn without_ignored(text: &str) -> String {
    let text = text.replace([',', '$'], "");
    let text = text
        .rsplit_once("#### ")
        .map_or(text.as_str(), |(_, number)| number);
    // Python's `$` also stands before a line break at the end.
    let (line, end) = match text.strip_suffix('\n') {
        Some(line) => (line.strip_suffix('.').unwrap_or(line), "\n"),
        None => (text.strip_suffix('.').unwrap_or(text), ""),
    };
    format!("{line}{end}")
}

fn after_mark(answer: &str) -> &str {
    answer
        .rsplit_once(MARK)
        .map_or(answer, |(_, number)| number)
        .trim()
}

fn documents(file: &DataFile) -> Result<Vec<Document>, DataError> {
    multiple_choice::documents(&reader::json_lines(file)?, |_, record: &Record| {
        let answer = record.text("answer")?;
        if !answer.contains(MARK) || number::decimal(after_mark(answer)).is_none() {
            return Err(record.error(format!("the answer does not end in `{MARK}` and a number")));
        }
        let question = record.text("question")?;
        Ok((record.place(), fields(question, answer)))
    })
}

fn fields(question: &str, answer: &str) -> serde_json::Map<String, serde_json::Value> {
    multiple_choice::fields([("question", json!(question)), ("answer", json!(answer))])
}

/// The list `fewshot_config.samples` of lm-eval's file: unquoted YAML texts, folded over deeper lines.
fn solutions_in_words(file: &DataFile) -> Result<Vec<Document>, DataError> {
    let error = |line: Option<usize>, problem: &str| {
        DataError {
        path: file.path.clone(),
        line,
        problem: problem.to_owned(),
        hint: "this must be lm-eval's `gsm8k-cot.yaml`, whose `fewshot_config.samples` holds the examples"
            .to_owned(),
    }
    };
    let lines = reader::lines(file)?;
    let list = lines
        .iter()
        .skip_while(|(_, line)| *line != "fewshot_config:")
        .skip_while(|(_, line)| *line != "  samples:")
        .skip(1)
        .take_while(|(_, line)| line.starts_with(' '));
    let mut pairs: Vec<(usize, String, Option<String>)> = Vec::new();
    for &(number, line) in list {
        let unread = || error(Some(number), "the line is no part of a list of examples");
        let value = |text: &str| plain(text).ok_or_else(unread);
        if let Some(question) = line.strip_prefix("  - question: ") {
            pairs.push((number, value(question)?, None));
            continue;
        }
        let (_, question, answer) = pairs.last_mut().ok_or_else(unread)?;
        if let Some(text) = line
            .strip_prefix("    target: ")
            .filter(|_| answer.is_none())
        {
            *answer = Some(value(text)?);
        } else if let Some(text) = line.strip_prefix("      ") {
            let folded = answer.as_mut().unwrap_or(question);
            folded.push(' ');
            folded.push_str(&value(text)?);
        } else {
            return Err(unread());
        }
    }
    if pairs.is_empty() {
        return Err(error(None, "there is no list `fewshot_config.samples`"));
    }
    let document = |(index, (line, question, answer)): (usize, (usize, String, Option<String>))| {
        let answer = answer.ok_or_else(|| error(Some(line), "the example has no `target`"))?;
        Ok(Document {
            index,
            id: format!("{}:{line}", file.name),
            categories: Vec::new(),
            fields: fields(&question, &answer),
        })
    };
    pairs.into_iter().enumerate().map(document).collect()
}

/// A YAML text without quotes, as long as it means itself.
fn plain(text: &str) -> Option<String> {
    let special = |letter| "'\"|>[]{}&*!#%@`?-".contains(letter);
    let means_itself = !text.is_empty()
        && !text.starts_with(special)
        && !text.contains(": ")
        && !text.contains(" #");
    // A continued line may begin with what only a first line may not.
    (means_itself && !text.ends_with(':')).then(|| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::multiple_choice::tests::file;

    const YAML: &str = "dataset_name: main\nfewshot_config:\n  sampler: first_n\n  samples:\n  - question: How many\n      eggs, Jo's $5?\n    target: One. The answer is 1.\n  - question: Two?\n    target: Yes. The answer\n      is 2.\nfilter_list:\n- filter: x\n";

    #[test]
    fn fixed_examples_are_read_strictly() {
        let task = tasks(&GenerationOptions::default()).remove(0);
        let examples = solutions_in_words(&file("cot.yaml", YAML.as_bytes())).unwrap();
        let shown: Vec<String> = examples
            .iter()
            .map(|example| task.example(example, Protocol::Paper))
            .collect();
        assert_eq!(
            shown,
            [
                "Q: How many eggs, Jo's $5?\nA: One. The answer is 1.\n\n",
                "Q: Two?\nA: Yes. The answer is 2.\n\n"
            ]
        );
        for (from, to, problem) in [
            ("  samples:", "  sample:", "cot.yaml: there is no list"),
            ("question: Two?", "question: 'Two?'", "cot.yaml:8: the line"),
            ("question: Two?", "question: a: b", "cot.yaml:8: the line"),
            (
                "    target: Yes.",
                "    answer: Yes.",
                "cot.yaml:9: the line",
            ),
            (
                "    target: One. The answer is 1.\n",
                "",
                "cot.yaml:5: the example has no `target`",
            ),
        ] {
            let text = YAML.replace(from, to);
            let error = solutions_in_words(&file("cot.yaml", text.as_bytes())).unwrap_err();
            assert!(error.to_string().starts_with(problem), "{error}");
            assert!(error.to_string().contains("\nhint: "), "{error}");
        }
    }

    #[test]
    fn numbers_are_read_in_the_form_of_the_examples() {
        let options = GenerationOptions::default();
        let words = |text: &str| number_of(&options, true, text);
        let marks = |text: &str| number_of(&options, false, text);
        for (text, expected) in [
            (" So 5 + 4 = 9. The answer is 9.", Some("9")),
            ("The answer is $1,234.50.", Some("1234.5")),
            ("the answer is: -3", Some("-3")),
            ("The answer is 7. The answer is 8.", Some("7")),
            ("The answer is 18 eggs", Some("18")),
            ("The answer is nine.", None),
            ("The answer is ...", None),
            ("9", None),
            ("", None),
        ] {
            assert_eq!(words(text).as_deref(), expected, "{text}");
        }
        for (text, expected) in [
            ("a\n#### 18", Some("18")),
            ("####1,000\n#### 2", Some("1000")),
            ("#### x", None),
            ("18", None),
        ] {
            assert_eq!(marks(text).as_deref(), expected, "{text}");
        }
    }

    fn number_of(options: &GenerationOptions, in_words: bool, text: &str) -> Option<String> {
        let task = Gsm8k {
            card: tasks(options)[0].card().clone(),
            in_words,
            voting: Voting::new(options, VOTES),
            options: options.clone(),
        };
        task.number(text)
    }

    #[test]
    fn lm_eval_ignores_what_its_patterns_match() {
        for (text, expected) in [
            ("$1,000.", "1000"),
            ("a #### 5\n#### 6", "6"),
            ("5.\n", "5\n"),
            ("5..", "5."),
            ("####,5", "####5"),
        ] {
            assert_eq!(without_ignored(text), expected, "{text}");
        }
    }
}
