//! TriviaQA, closed book: questions of quiz leagues, answered from memory.
//!
//! Paper: "dev set of the filtered set", which names no file. Evaluated are the 11,313 questions of the
//! open-domain split (the development part of the unfiltered set), which most evidence speaks for; few-shot
//! examples are drawn from DPR's dev file, questions held out of the training split. Prompts and scoring:
//! `closed_book`. lm-eval's own task reads `rc.nocontext` (17,944 rows) instead.

use std::sync::Arc;

use crate::{
    closed_book::{self, ClosedBook, METRICS},
    dataset::{DataDir, DataError, DataFile},
    exact_match::ExactMatch,
    multiple_choice,
    reader::{self, Header},
    task::{Card, Document, GenerationOptions, Task},
};

const TEST: &str = "triviaqa/topics.dpr.trivia.test.txt";
const POOL: &[&str] = &["triviaqa/topics.dpr.trivia.dev.txt"];

struct TriviaQa;

pub(crate) fn tasks(options: &GenerationOptions) -> Vec<Arc<dyn Task>> {
    closed_book::settings::<TriviaQa>(options)
}

impl ClosedBook for TriviaQa {
    const LM_EVAL_DESCRIPTION: &'static str = "";
    /// The questions have their own question mark, so prompts end in two.
    const LM_EVAL_PROMPT: &'static str = "Question: {question}?\nAnswer:";
    const LM_EVAL_DELIMITER: &'static str = "\n\n";

    fn card() -> Card {
        Card {
            name: "triviaqa".to_owned(),
            title: "TriviaQA",
            version: 1,
            published: Some(("table5_triviaqa", "0-shot")),
            group: None,
            split: "open-domain test (unfiltered dev)",
            documents: 11313,
            shots: 0,
            metrics: METRICS.into(),
            headline: closed_book::headline(),
            licence: "not stated",
            citation: "Joshi et al. 2017, TriviaQA: A Large Scale Distantly Supervised Challenge Dataset for Reading Comprehension, ACL",
        }
    }

    fn documents(data: &DataDir) -> Result<Vec<Document>, DataError> {
        documents(&data.read(TEST)?)
    }

    fn examples(data: &DataDir) -> Result<Vec<Document>, DataError> {
        documents(&multiple_choice::read_pool(data, POOL)?)
    }

    fn exact_match() -> ExactMatch {
        ExactMatch {
            ignore: str::to_owned,
            ignore_punctuation: true,
        }
    }
}

fn documents(file: &DataFile) -> Result<Vec<Document>, DataError> {
    let header = Header::Absent(&["question", "answers"]);
    closed_book::dpr_documents(&reader::quoted_tsv_rows(file, header)?)
}
