//! Benchmarks that ask a question and list its choices: all they have in common.

use std::sync::Arc;

use llama_eval_model::{Answer, Preamble, Request};
use serde_json::{Map, Value, json};

use crate::{
    choice,
    dataset::{DataDir, DataError, DataFile},
    reader::{self, Record},
    task::{Card, Document, Outcome, Protocol, Sampler, Task, Verdict},
};

/// Between a few-shot example and what follows it.
pub(crate) const EXAMPLE_DELIMITER: &str = "\n\n";

/// What a multiple-choice benchmark has of its own. Each is a [`Task`], scored by all of [`choice::METRICS`].
pub(crate) trait MultipleChoice: Send + Sync {
    /// See [`Task::card`].
    fn card(&self) -> &Card;

    /// See [`Task::documents`].
    fn documents(&self, data: &DataDir, protocol: Protocol) -> Result<Vec<Document>, DataError>;

    /// See [`Task::examples`].
    fn examples(&self, data: &DataDir, protocol: Protocol) -> Result<Vec<Document>, DataError>;

    /// See [`Task::sampler`].
    fn sampler(&self) -> Sampler {
        Sampler::Random
    }

    /// See [`Task::description`].
    fn description(&self, protocol: Protocol) -> String {
        let _ = protocol;
        String::new()
    }

    /// The document's own part of the prompt, up to the delimiter before the choice.
    fn question(&self, document: &Document, protocol: Protocol) -> String;

    /// The choices, in order.
    fn choices(&self, document: &Document) -> Vec<String>;

    /// Index of the right choice.
    fn gold(&self, document: &Document) -> usize;
}

impl<T: MultipleChoice> Task for T {
    fn card(&self) -> &Card {
        self.card()
    }

    fn documents(&self, data: &DataDir, protocol: Protocol) -> Result<Vec<Document>, DataError> {
        self.documents(data, protocol)
    }

    fn examples(&self, data: &DataDir, protocol: Protocol) -> Result<Vec<Document>, DataError> {
        self.examples(data, protocol)
    }

    fn sampler(&self) -> Sampler {
        self.sampler()
    }

    fn description(&self, _: &DataDir, protocol: Protocol) -> Result<String, DataError> {
        Ok(self.description(protocol))
    }

    fn example(&self, document: &Document, protocol: Protocol) -> String {
        let question = self.question(document, protocol);
        let answer = self
            .choices(document)
            .into_iter()
            .nth(self.gold(document))
            .unwrap_or_default();
        format!("{question}{}{answer}{EXAMPLE_DELIMITER}", choice::DELIMITER)
    }

    fn requests(
        &self,
        document: &Document,
        preamble: &Arc<Preamble>,
        protocol: Protocol,
    ) -> Vec<Request> {
        choice::requests(
            preamble,
            &self.question(document, protocol),
            &self.choices(document),
        )
    }

    fn target(&self, document: &Document) -> String {
        self.gold(document).to_string()
    }

    fn score(
        &self,
        document: &Document,
        answers: &[Answer],
        _: &[Vec<Verdict>],
        _: Protocol,
    ) -> Outcome {
        choice::score(answers, &self.choices(document), self.gold(document))
    }
}

/// Documents of the records, in their order: `document` gives id and fields.
pub(crate) fn documents(
    records: &[Record],
    document: impl Fn(usize, &Record) -> Result<(String, Map<String, Value>), DataError>,
) -> Result<Vec<Document>, DataError> {
    let numbered = records.iter().enumerate();
    numbered
        .map(|(index, record)| {
            let (id, fields) = document(index, record)?;
            Ok(Document {
                index,
                id,
                categories: Vec::new(),
                fields,
            })
        })
        .collect()
}

/// The fields of a document, in this order.
pub(crate) fn fields<const N: usize>(fields: [(&str, Value); N]) -> Map<String, Value> {
    fields
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// The file that few-shot examples are drawn from; without it, a task can still be run with 0 shots.
pub(crate) fn read_pool(data: &DataDir, names: &[&str]) -> Result<DataFile, DataError> {
    data.read_first(names).map_err(|error| {
        let hint = format!(
            "few-shot examples come from {}, which 0 shots do not need; {}",
            names.join(" or "),
            error.hint
        );
        DataError { hint, ..error }
    })
}

/// Index of the right choice when labels count from `first`.
pub(crate) fn gold(
    record: &Record,
    label: i64,
    first: i64,
    choices: usize,
) -> Result<usize, DataError> {
    usize::try_from(label - first)
        .ok()
        .filter(|&index| index < choices)
        .ok_or_else(|| {
            record.error(format!(
                "the gold answer {label} is none of the {choices} choices"
            ))
        })
}

/// The field `choices` of ARC and OpenBookQA, `{"text": [..], "label": [..]}`, checked to hold the right label.
pub(crate) fn labelled(record: &Record, answer: &str) -> Result<Value, DataError> {
    let choices = record.object("question")?.objects("choices")?;
    let column = |name: &str| {
        choices
            .iter()
            .map(|choice| choice.text(name))
            .collect::<Result<Vec<_>, _>>()
    };
    let (texts, labels) = (column("text")?, column("label")?);
    if !labels.contains(&answer) {
        return Err(record.error(format!(
            "the gold answer {answer:?} is none of the choices {labels:?}"
        )));
    }
    Ok(json!({ "text": texts, "label": labels }))
}

/// The texts of the field `choices`.
pub(crate) fn labelled_choices(document: &Document) -> Vec<String> {
    let texts = document
        .fields
        .get("choices")
        .and_then(|choices| choices.get("text")?.as_array());
    texts
        .into_iter()
        .flatten()
        .filter_map(|text| text.as_str().map(str::to_owned))
        .collect()
}

/// Which label of the field `choices` is `answerKey`.
pub(crate) fn labelled_gold(document: &Document) -> usize {
    let labels = document
        .fields
        .get("choices")
        .and_then(|choices| choices.get("label")?.as_array());
    labels
        .into_iter()
        .flatten()
        .position(|label| label == document.text("answerKey"))
        .unwrap_or_default()
}

/// One gold label a line, for datasets that keep them in a file of their own.
pub(crate) fn labels(
    file: &DataFile,
    records: usize,
    first: usize,
    choices: usize,
) -> Result<Vec<usize>, DataError> {
    let error = |line: Option<usize>, problem: String| DataError {
        path: file.path.clone(),
        line,
        problem,
        hint: "the file is damaged or is not the dataset's own; fetch it again".to_owned(),
    };
    let label = |(line, text): (usize, &str)| {
        let index = text
            .trim()
            .parse::<usize>()
            .ok()
            .and_then(|label| label.checked_sub(first));
        index.filter(|&index| index < choices).ok_or_else(|| {
            error(
                Some(line),
                format!("the gold answer {text:?} is none of the {choices} choices"),
            )
        })
    };
    let labels = reader::lines(file)?
        .into_iter()
        .map(label)
        .collect::<Result<Vec<_>, _>>()?;
    if labels.len() != records {
        return Err(error(
            None,
            format!("{} labels for {records} documents", labels.len()),
        ));
    }
    Ok(labels)
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use sha2::{Digest, Sha256};

    /// A made-up file under a dataset's name.
    pub(crate) fn file(name: &str, bytes: &[u8]) -> DataFile {
        let sha256 = Sha256::digest(bytes)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        DataFile {
            name: name.to_owned(),
            path: name.into(),
            bytes: bytes.to_vec(),
            sha256,
        }
    }

    /// Every context and continuation that is asked about a document.
    pub(crate) fn asked(
        task: &dyn Task,
        document: &Document,
        protocol: Protocol,
    ) -> Vec<(String, String)> {
        let requests = task
            .requests(document, &Arc::default(), protocol)
            .into_iter();
        let pairs = requests.map(|request| match request {
            Request::LogLikelihood {
                prompt,
                continuation,
            } => (prompt.text(), continuation),
            other => panic!("{other:?} is not a log-likelihood request"),
        });
        pairs.collect()
    }

    /// The first context under the paper's protocol and under lm-eval's.
    pub(crate) fn questions(task: &dyn Task, document: &Document) -> [String; 2] {
        [Protocol::Paper, Protocol::LmEval]
            .map(|protocol| asked(task, document, protocol).swap_remove(0).0)
    }

    /// An answer whose tokens have these log-probabilities.
    pub(crate) fn log_likelihood(log_probs: &[f32]) -> Answer {
        Answer::LogLikelihood {
            log_probs: log_probs.to_vec(),
            token_ids: vec![0; log_probs.len()],
            greedy: false,
            margin: 1.0,
            context_tokens: 1,
            dropped_examples: 0,
            truncated_tokens: 0,
        }
    }
}
