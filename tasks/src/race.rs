//! RACE-middle and RACE-high: reading comprehension of English exams. Evaluated on the test splits.
//!
//! Paper: "evaluation setup from Brown et al." (LLaMA section 3.3), which compares P(choice | prompt) /
//! P(choice | answer context). One document per question. GPT-3's figures G.1 and G.3 show the article, the other
//! questions of the article with their answers, and the question last; left open are the line breaks (those of the
//! figures), whether questions after the asked one are shown (they are, in the order of the file), and the answer
//! context ("Answer:", as for the paper's other tasks; Brown et al. name "Answer: " or "A: ").
//! lm-eval: `race/race.yaml`, `race/preprocess_race.py` (3.0): RACE-high alone, one document per article, its last
//! question. RACE-middle is given the same form here.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::{
    choice,
    dataset::{DataDir, DataError},
    multiple_choice::{self, MultipleChoice},
    reader::{self, Record},
    task::{Card, Document, Protocol, Task},
    text,
};

const PAPER_ARTICLE: &str = "Article:\n{article}\n\n";
const PAPER_SOLVED: &str = "Q: {question}\nA: {answer}\n\n";
const PAPER_ASKED: &str = "Q: {question}\nA:";

const LM_EVAL_ARTICLE: &str = "Article: {article}\n\n";
const LM_EVAL_SOLVED: &str = "Question: {question}\nAnswer: {answer}\n";
/// A question that ends so is a statement: the answer takes the place of the blank, after one space.
const CLOZE_END: &str = "  _  .";
const CLOZE_SPACE: &str = " ";

const LETTERS: [&str; 4] = ["A", "B", "C", "D"];

struct Race {
    card: Card,
    folder: &'static str,
}

pub(crate) fn tasks() -> Vec<Arc<dyn Task>> {
    let middle = Card {
        name: "race_middle".to_owned(),
        title: "RACE-middle",
        version: 1,
        published: Some(("table6_race", "RACE-middle")),
        group: None,
        split: "test",
        documents: 1436,
        shots: 0,
        metrics: choice::METRICS.into(),
        headline: ("acc_answer_context".into(), "acc".into()),
        licence: "non-commercial research only",
        citation: "Lai et al. 2017, RACE: Large-scale ReAding Comprehension Dataset From Examinations, EMNLP",
    };
    let high = Card {
        name: "race_high".to_owned(),
        title: "RACE-high",
        published: Some(("table6_race", "RACE-high")),
        documents: 3498,
        ..middle.clone()
    };
    vec![
        Arc::new(Race {
            card: middle,
            folder: "race/test/middle/",
        }),
        Arc::new(Race {
            card: high,
            folder: "race/test/high/",
        }),
    ]
}

impl MultipleChoice for Race {
    fn card(&self) -> &Card {
        &self.card
    }

    fn documents(&self, data: &DataDir, protocol: Protocol) -> Result<Vec<Document>, DataError> {
        let mut all: Vec<Document> = Vec::new();
        for name in data.names_under(self.folder)? {
            let article = reader::json_object(&data.read(&name)?)?;
            for document in asked_of(&article, protocol)? {
                all.push(Document {
                    index: all.len(),
                    ..document
                });
            }
        }
        Ok(all)
    }

    /// There is no other split in lm-eval's configuration.
    fn examples(&self, data: &DataDir, protocol: Protocol) -> Result<Vec<Document>, DataError> {
        MultipleChoice::documents(self, data, protocol)
    }

    fn question(&self, document: &Document, protocol: Protocol) -> String {
        match protocol {
            Protocol::Paper => paper_question(document),
            Protocol::LmEval => lm_eval_question(document),
        }
    }

    fn choices(&self, document: &Document) -> Vec<String> {
        asked(document)
            .map(|problem| options(problem).map(str::to_owned).collect())
            .unwrap_or_default()
    }

    fn gold(&self, document: &Document) -> usize {
        asked(document)
            .and_then(|problem| letter_index(problem.get("answer")?.as_str()?))
            .unwrap_or_default()
    }
}

fn paper_question(document: &Document) -> String {
    let mut text = document.fill(PAPER_ARTICLE);
    for (number, problem) in problems(document).iter().enumerate() {
        if number != document.number("problem") {
            text.push_str(&fill(PAPER_SOLVED, problem));
        }
    }
    text + &asked(document)
        .map(|problem| fill(PAPER_ASKED, problem))
        .unwrap_or_default()
}

fn lm_eval_question(document: &Document) -> String {
    let mut text = document.fill(LM_EVAL_ARTICLE);
    for problem in problems(document).iter().take(document.number("problem")) {
        match question(problem).strip_suffix(CLOZE_END) {
            Some(statement) => text.extend([statement, CLOZE_SPACE, answer(problem), "\n"]),
            None => text.push_str(&fill(LM_EVAL_SOLVED, problem)),
        }
    }
    text + asked(document).map(question).unwrap_or_default()
}

fn problems(document: &Document) -> &[Value] {
    document
        .fields
        .get("problems")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default()
}

/// The problem this document asks.
fn asked(document: &Document) -> Option<&Value> {
    problems(document).get(document.number("problem"))
}

fn question(problem: &Value) -> &str {
    problem
        .get("question")
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn options(problem: &Value) -> impl Iterator<Item = &str> {
    problem
        .get("options")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}

fn answer(problem: &Value) -> &str {
    let index = problem
        .get("answer")
        .and_then(Value::as_str)
        .and_then(letter_index);
    index
        .and_then(|index| options(problem).nth(index))
        .unwrap_or_default()
}

fn letter_index(letter: &str) -> Option<usize> {
    LETTERS.iter().position(|known| *known == letter)
}

fn fill(template: &str, problem: &Value) -> String {
    text::fill(template, |name| match name {
        "question" => Some(question(problem)),
        "answer" => Some(answer(problem)),
        _ => None,
    })
}

/// The documents made of one article: all its problems (paper) or the last (lm-eval).
fn asked_of(article: &Record, protocol: Protocol) -> Result<Vec<Document>, DataError> {
    let (questions, answers) = (article.texts("questions")?, article.texts("answers")?);
    let options = article.list("options")?;
    if questions.is_empty() || questions.len() != answers.len() || questions.len() != options.len()
    {
        let counts = [questions.len(), options.len(), answers.len()];
        return Err(article.error(format!(
            "the numbers of questions, options and answers differ or are 0: {counts:?}"
        )));
    }
    let mut problems = Vec::with_capacity(questions.len());
    for (number, ((question, answer), options)) in
        questions.iter().zip(&answers).zip(options).enumerate()
    {
        let four = options.as_array().is_some_and(|options| {
            options.len() == LETTERS.len() && options.iter().all(Value::is_string)
        });
        if !four || letter_index(answer).is_none() {
            return Err(article.error(format!(
                "question {number} has not four options and a gold answer of A to D"
            )));
        }
        problems.push(json!({ "question": question, "options": options, "answer": answer }));
    }
    let (id, last) = (article.text("id")?, problems.len() - 1);
    let document = |problem: usize, id: String| -> Result<Document, DataError> {
        let fields = multiple_choice::fields([
            ("article", json!(article.text("article")?)),
            ("problems", json!(problems)),
            ("problem", json!(problem)),
        ]);
        Ok(Document {
            index: problem,
            id,
            categories: Vec::new(),
            fields,
        })
    };
    match protocol {
        Protocol::Paper => (0..=last)
            .map(|problem| document(problem, format!("{id}#{problem}")))
            .collect(),
        Protocol::LmEval => Ok(vec![document(last, id.to_owned())?]),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::multiple_choice::tests::{file, questions};

    const ARTICLE: &[u8] = br#"{"answers": ["B", "A"], "options": [["red", "blue", "green", "black"], ["Up.", "On.", "In.", "By."]],
        "questions": ["The sky is  _  .", "Where is it?"], "article": "Sky.\nBlue.", "id": "middle1.txt"}"#;

    fn documents(protocol: Protocol) -> Vec<Document> {
        let article = reader::json_object(&file("1.txt", ARTICLE)).unwrap();
        asked_of(&article, protocol).unwrap()
    }

    #[test]
    fn the_paper_asks_every_question_after_the_others_solved() {
        let (task, documents) = (tasks().remove(0), documents(Protocol::Paper));
        assert_eq!(documents.len(), 2);
        let [first, second] = [0, 1].map(|index| questions(&*task, &documents[index])[0].clone());
        assert_eq!(
            first,
            "Article:\nSky.\nBlue.\n\nQ: Where is it?\nA: Up.\n\nQ: The sky is  _  .\nA:"
        );
        assert_eq!(
            second,
            "Article:\nSky.\nBlue.\n\nQ: The sky is  _  .\nA: blue\n\nQ: Where is it?\nA:"
        );
        assert_eq!(task.target(&documents[0]), "1");
    }

    #[test]
    fn an_answer_that_is_no_letter_is_an_error() {
        let article = String::from_utf8(ARTICLE.to_vec())
            .unwrap()
            .replace("[\"B\"", "[\"E\"");
        let article = reader::json_object(&file("1.txt", article.as_bytes())).unwrap();
        let error = asked_of(&article, Protocol::Paper).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("1.txt: question 0 has not four options"),
            "{error}"
        );
    }

    #[test]
    fn lm_eval_asks_the_last_question_of_each_article() {
        let (task, documents) = (tasks().remove(0), documents(Protocol::LmEval));
        assert_eq!(documents.len(), 1);
        let text = "Article: Sky.\nBlue.\n\nThe sky is blue\nWhere is it?";
        assert_eq!(questions(&*task, &documents[0])[1], text);
    }
}
