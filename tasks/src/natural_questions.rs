//! NaturalQuestions, closed book: questions asked of a search engine, answered from memory.
//!
//! Evaluated on the 3,610 questions of the open-domain split. Few-shot examples are drawn from DPR's dev file,
//! questions held out of the training split, which the paper's own choice is not known to be. Prompts and
//! scoring: `closed_book`.

use std::sync::{Arc, LazyLock};

use regex::Regex;

use crate::{
    closed_book::{self, ClosedBook, METRICS},
    dataset::{DataDir, DataError},
    exact_match::ExactMatch,
    multiple_choice,
    reader::{self, Header},
    task::{Card, Document, GenerationOptions, Task},
    text,
};

const TEST: &str = "nq_open/NQ-open.dev.jsonl";
const POOL: &[&str] = &["nq_open/topics.nq.dev.txt"];

/// Articles, as lm-eval deletes them: before other changes, with the space behind.
static IGNORED: LazyLock<Regex> = LazyLock::new(|| text::pattern(r"\b(?:The |the |An |A |a |an )"));

struct NaturalQuestions;

pub(crate) fn tasks(options: &GenerationOptions) -> Vec<Arc<dyn Task>> {
    closed_book::settings::<NaturalQuestions>(options)
}

impl ClosedBook for NaturalQuestions {
    const LM_EVAL_DESCRIPTION: &'static str = "Answer these questions:\n\n";
    const LM_EVAL_PROMPT: &'static str = "Q: {question}?\nA:";
    const LM_EVAL_DELIMITER: &'static str = "\n";

    fn card() -> Card {
        Card {
            name: "nq_open".to_owned(),
            title: "NaturalQuestions",
            version: 1,
            published: Some(("table4_natural_questions", "0-shot")),
            group: None,
            split: "validation",
            documents: 3610,
            shots: 0,
            metrics: METRICS.into(),
            headline: closed_book::headline(),
            licence: "CC BY-SA 3.0",
            citation: "Kwiatkowski et al. 2019, Natural Questions: a Benchmark for Question Answering Research, TACL; \
                       Lee et al. 2019, Latent Retrieval for Weakly Supervised Open Domain Question Answering, ACL",
        }
    }

    fn documents(data: &DataDir) -> Result<Vec<Document>, DataError> {
        let records = reader::json_lines(&data.read(TEST)?)?;
        let document = |(index, record): (usize, &reader::Record)| {
            let (question, answers) = (record.text("question")?, record.texts("answer")?);
            closed_book::document(record, index, question, &answers)
        };
        records.iter().enumerate().map(document).collect()
    }

    fn examples(data: &DataDir) -> Result<Vec<Document>, DataError> {
        let file = multiple_choice::read_pool(data, POOL)?;
        let header = Header::Absent(&["question", "answers"]);
        closed_book::dpr_documents(&reader::quoted_tsv_rows(&file, header)?)
    }

    fn exact_match() -> ExactMatch {
        ExactMatch {
            ignore: |text| IGNORED.replace_all(text, "").into_owned(),
            ignore_punctuation: true,
        }
    }
}
