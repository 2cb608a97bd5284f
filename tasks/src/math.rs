//! MATH: competition problems in seven subjects and five levels. Evaluated on the test split, one task a subject.
//!
//! Prompt and answers are Minerva's (Lewkowycz et al. 2022, appendix D), whose setup LLaMA follows: four fixed
//! training problems, each solution followed by "Final Answer: The final answer is $X$. I hope it is correct.";
//! an answer is read from that sentence, normalised (`answer`) and compared by value (`equal`).
//!
//! Paper: left open are the limit of new tokens (512) and the sampling of maj1@256 (`majority`).
//! lm-eval: `minerva_math/*`, whose two comparisons by sympy and by the library math-verify are done here by
//! `equal` and `verify`; what these do not cover is written there.

mod answer;
mod complex;
mod equal;
mod expression;
mod rational;
mod verify;

use std::sync::Arc;

use llama_eval_model::{Answer, Completion, Preamble, Prompt, Request};
use serde_json::json;

use crate::{
    closed_book::LM_EVAL_NEW_TOKENS,
    dataset::{DataDir, DataError},
    exact_match,
    majority::{self, Voting},
    multiple_choice::{self, EXAMPLE_DELIMITER},
    reader,
    task::{Card, Document, GenerationOptions, Metric, Outcome, Protocol, Sampler, Task, Verdict},
};

const PROMPT: &str = "Problem:\n{problem}\n\nSolution:";
const FINAL_ANSWER: &str = "\nFinal Answer: The final answer is $";
const FINAL_ANSWER_END: &str = "$. I hope it is correct.";
const STOP: &[&str] = &["Problem:"];
const PAPER_NEW_TOKENS: usize = 512;
/// The paper's k of maj1@k.
const VOTES: usize = 256;

/// lm-eval's name, folder, documents.
const SUBJECTS: [(&str, &str, usize); 7] = [
    ("algebra", "algebra", 1187),
    ("counting_and_prob", "counting_and_probability", 474),
    ("geometry", "geometry", 479),
    ("intermediate_algebra", "intermediate_algebra", 903),
    ("num_theory", "number_theory", 540),
    ("prealgebra", "prealgebra", 871),
    ("precalc", "precalculus", 546),
];
const LEVELS: [&str; 5] = ["Level 1", "Level 2", "Level 3", "Level 4", "Level 5"];

/// Minerva's four problems, in order.
const EXAMPLES: [&str; 4] = [
    "math/train/algebra/943.json",
    "math/train/precalculus/372.json",
    "math/train/algebra/256.json",
    "math/train/algebra/1951.json",
];
/// Where the white space of Minerva's prompt is not that of the problem or solution.
const RESPACED: [(&str, &str, &str); 3] = [
    (EXAMPLES[0], " $\\frac", "  $\\frac"),
    (EXAMPLES[2], " \\begin{align*}", "\n\\begin{align*}"),
    (EXAMPLES[3], ", find $", ",\nfind $"),
];

const EXACT_MATCH: Metric = Metric::new(
    "exact_match",
    "the normalised answer equals the normalised gold answer, as text or as a value",
);
const STRICT: Metric = Metric::new(
    "exact_match_strict",
    "the answer equals the gold answer to the character",
);
const VERIFIED: Metric = Metric::new(
    "math_verify",
    "the answer found by math-verify's rules has the gold answer's value",
);

struct Math {
    card: Card,
    folder: &'static str,
    voting: Voting,
    options: GenerationOptions,
}

pub(crate) fn tasks(options: &GenerationOptions) -> Vec<Arc<dyn Task>> {
    let voting = Voting::new(options, VOTES);
    let metrics = [EXACT_MATCH].into_iter().chain(voting.metric());
    let card = Card {
        name: String::new(),
        title: "MATH",
        version: 1,
        published: Some(("table7_math", "MATH")),
        group: Some("minerva_math"),
        split: "test",
        documents: 0,
        shots: EXAMPLES.len(),
        metrics: metrics.chain([STRICT, VERIFIED]).collect(),
        headline: (EXACT_MATCH.name, EXACT_MATCH.name),
        licence: "MIT",
        citation: "Hendrycks et al. 2021, Measuring Mathematical Problem Solving With the MATH Dataset, NeurIPS",
    };
    let task = |(subject, folder, documents)| -> Arc<dyn Task> {
        Arc::new(Math {
            card: Card {
                name: format!("minerva_math_{subject}"),
                documents,
                ..card.clone()
            },
            folder,
            voting,
            options: options.clone(),
        })
    };
    SUBJECTS.into_iter().map(task).collect()
}

impl Task for Math {
    fn card(&self) -> &Card {
        &self.card
    }

    fn documents(&self, data: &DataDir, _: Protocol) -> Result<Vec<Document>, DataError> {
        let names = data.names_under(&format!("math/test/{}/", self.folder))?;
        let document = |(index, name): (usize, &String)| document(data, name, index);
        names.iter().enumerate().map(document).collect()
    }

    fn examples(&self, data: &DataDir, _: Protocol) -> Result<Vec<Document>, DataError> {
        let example = |(index, &name): (usize, &&str)| {
            let mut example = document(data, name, index)?;
            for (_, from, to) in RESPACED.iter().filter(|(of, _, _)| *of == name) {
                for field in ["problem", "solution"] {
                    let text = example.text(field).replacen(from, to, 1);
                    example.fields.insert(field.to_owned(), json!(text));
                }
            }
            Ok(example)
        };
        EXAMPLES.iter().enumerate().map(example).collect()
    }

    fn sampler(&self) -> Sampler {
        Sampler::FirstN
    }

    fn example(&self, document: &Document, _: Protocol) -> String {
        let (prompt, solution) = (document.fill(PROMPT), document.text("solution"));
        let boxed = answer::boxed(solution).unwrap_or_default();
        format!("{prompt} {solution}{FINAL_ANSWER}{boxed}{FINAL_ANSWER_END}{EXAMPLE_DELIMITER}")
    }

    fn requests(
        &self,
        document: &Document,
        preamble: &Arc<Preamble>,
        protocol: Protocol,
    ) -> Vec<Request> {
        let prompt = Prompt {
            preamble: Arc::clone(preamble),
            question: document.fill(PROMPT),
        };
        let own = match protocol {
            Protocol::Paper => PAPER_NEW_TOKENS,
            Protocol::LmEval => LM_EVAL_NEW_TOKENS,
        };
        let limit = self.options.max_new_tokens.unwrap_or(own);
        let seed = self
            .options
            .seed_of(&self.card.name, document.index, "votes");
        self.voting
            .under(protocol)
            .requests(prompt, STOP, limit, seed)
    }

    fn target(&self, document: &Document) -> String {
        document.text("answer").to_owned()
    }

    /// lm-eval has no filter here: it reads the answer while scoring.
    fn filtered(
        &self,
        _: &Document,
        completion: &str,
        protocol: Protocol,
    ) -> Vec<(&'static str, String)> {
        match protocol {
            Protocol::Paper => {
                let answer = answer::stated(completion).map(|answer| answer::normalize(&answer));
                vec![(
                    "answer",
                    answer.unwrap_or_else(|| exact_match::INVALID.to_owned()),
                )]
            }
            Protocol::LmEval => Vec::new(),
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
        let gold = document.text("answer");
        let score = |right| f64::from(u8::from(right));
        let stated = answer::stated(greedy);
        let answer = answer::normalize(stated.as_deref().unwrap_or(answer::INVALID));
        let strict = stated.is_some_and(|stated| {
            Some(without_dollars(&stated)) == answer::boxed(document.text("solution"))
        });
        let verified = verify::verify(document.text("solution"), greedy);
        let mut scores = vec![
            (EXACT_MATCH.name, score(equal::is_equal(&answer, gold))),
            (STRICT.name, score(strict)),
            (VERIFIED.name, score(verified)),
        ];
        if let Some(metric) = voting.metric() {
            let vote = |completion: &&Completion| {
                answer::stated(&completion.text).map(|answer| answer::normalize(&answer))
            };
            let votes = voting.voters(&completions);
            let vote = majority::majority(votes.iter().map(vote));
            let right = vote.is_some_and(|vote| equal::is_equal(&vote, gold));
            scores.push((metric.name, score(right)));
        }
        Outcome::Scored(scores)
    }
}

/// An answer without the dollars around it.
fn without_dollars(answer: &str) -> &str {
    let inner = answer
        .strip_prefix('$')
        .and_then(|rest| rest.strip_suffix('$'));
    inner.unwrap_or(answer)
}

fn document(data: &DataDir, name: &str, index: usize) -> Result<Document, DataError> {
    let record = reader::json_object(&data.read(name)?)?;
    let (problem, solution) = (record.text("problem")?, record.text("solution")?);
    let level = record.text("level")?;
    if !LEVELS.contains(&level) {
        return Err(record.error(format!("`{level}` is none of the five levels")));
    }
    let Some(boxed) = answer::boxed(solution) else {
        return Err(record.error("the solution has no answer in `\\boxed{}`"));
    };
    Ok(Document {
        index,
        id: name.strip_prefix("math/").unwrap_or(name).to_owned(),
        categories: vec![level.to_owned()],
        fields: multiple_choice::fields([
            ("problem", json!(problem)),
            ("level", json!(level)),
            ("type", json!(record.text("type")?)),
            ("solution", json!(solution)),
            ("answer", json!(answer::normalize(boxed))),
        ]),
    })
}
