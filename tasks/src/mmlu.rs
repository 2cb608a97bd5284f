//! MMLU: multiple-choice exams in 57 subjects, one task each, averaged over all 14,042 questions (group `mmlu`).
//! Evaluated on the test splits, with the five questions of each subject's dev file as examples, in their order.
//!
//! Paper: LLaMA section 3.6, 5-shot. Its authors adapted the original code of Hendrycks et al. (hendrycks/test,
//! `evaluate.py`), which writes two spaces after "about", asks for the letter, and drops examples from the end when a
//! prompt is too long. Categories are those of its `categories.py`, from which table 9 follows (table 16 and lm-eval
//! call Anatomy STEM, where it is Other).
//! lm-eval: `mmlu/default/_default_template_yaml`: one space after "about", the question stripped.

use std::sync::Arc;

use serde_json::json;

use crate::{
    choice,
    dataset::{DataDir, DataError, DataFile},
    multiple_choice::{self, MultipleChoice},
    reader::{self, Header},
    task::{Card, Document, Protocol, Sampler, Task},
    text,
};

const PAPER_DESCRIPTION: &str =
    "The following are multiple choice questions (with answers) about  {subject}.\n\n";
const LM_EVAL_DESCRIPTION: &str =
    "The following are multiple choice questions (with answers) about {subject}.\n\n";
const PROMPT: &str = "{question}\nA. {A}\nB. {B}\nC. {C}\nD. {D}\nAnswer:";
const LETTERS: [&str; 4] = ["A", "B", "C", "D"];
const COLUMNS: &[&str] = &["question", "A", "B", "C", "D", "answer"];

pub(crate) const HUMANITIES: &str = "Humanities";
pub(crate) const STEM: &str = "STEM";
pub(crate) const SOCIAL_SCIENCES: &str = "Social Sciences";
pub(crate) const OTHER: &str = "Other";

/// Subject, its row in table 16, its category and its number of test questions.
const SUBJECTS: [(&str, &str, &str, usize); 57] = [
    ("abstract_algebra", "Abstract Algebra", STEM, 100),
    ("anatomy", "Anatomy", OTHER, 135),
    ("astronomy", "Astronomy", STEM, 152),
    ("business_ethics", "Business Ethics", OTHER, 100),
    ("clinical_knowledge", "Clinical Knowledge", OTHER, 265),
    ("college_biology", "College Biology", STEM, 144),
    ("college_chemistry", "College Chemistry", STEM, 100),
    (
        "college_computer_science",
        "College Computer Science",
        STEM,
        100,
    ),
    ("college_mathematics", "College Mathematics", STEM, 100),
    ("college_medicine", "College Medicine", OTHER, 173),
    ("college_physics", "College Physics", STEM, 102),
    ("computer_security", "Computer Security", STEM, 100),
    ("conceptual_physics", "Conceptual Physics", STEM, 235),
    ("econometrics", "Econometrics", SOCIAL_SCIENCES, 114),
    (
        "electrical_engineering",
        "Electrical Engineering",
        STEM,
        145,
    ),
    (
        "elementary_mathematics",
        "Elementary Mathematics",
        STEM,
        378,
    ),
    ("formal_logic", "Formal Logic", HUMANITIES, 126),
    ("global_facts", "Global Facts", OTHER, 100),
    ("high_school_biology", "High School Biology", STEM, 310),
    ("high_school_chemistry", "High School Chemistry", STEM, 203),
    (
        "high_school_computer_science",
        "High School Computer Science",
        STEM,
        100,
    ),
    (
        "high_school_european_history",
        "High School European History",
        HUMANITIES,
        165,
    ),
    (
        "high_school_geography",
        "High School Geography",
        SOCIAL_SCIENCES,
        198,
    ),
    (
        "high_school_government_and_politics",
        "High School Government And Politics",
        SOCIAL_SCIENCES,
        193,
    ),
    (
        "high_school_macroeconomics",
        "High School Macroeconomics",
        SOCIAL_SCIENCES,
        390,
    ),
    (
        "high_school_mathematics",
        "High School Mathematics",
        STEM,
        270,
    ),
    (
        "high_school_microeconomics",
        "High School Microeconomics",
        SOCIAL_SCIENCES,
        238,
    ),
    ("high_school_physics", "High School Physics", STEM, 151),
    (
        "high_school_psychology",
        "High School Psychology",
        SOCIAL_SCIENCES,
        545,
    ),
    (
        "high_school_statistics",
        "High School Statistics",
        STEM,
        216,
    ),
    (
        "high_school_us_history",
        "High School US History",
        HUMANITIES,
        204,
    ),
    (
        "high_school_world_history",
        "High School World History",
        HUMANITIES,
        237,
    ),
    ("human_aging", "Human Aging", OTHER, 223),
    ("human_sexuality", "Human Sexuality", SOCIAL_SCIENCES, 131),
    ("international_law", "International Law", HUMANITIES, 121),
    ("jurisprudence", "Jurisprudence", HUMANITIES, 108),
    ("logical_fallacies", "Logical Fallacies", HUMANITIES, 163),
    ("machine_learning", "Machine Learning", STEM, 112),
    ("management", "Management", OTHER, 103),
    ("marketing", "Marketing", OTHER, 234),
    ("medical_genetics", "Medical Genetics", OTHER, 100),
    ("miscellaneous", "Miscellaneous", OTHER, 783),
    ("moral_disputes", "Moral Disputes", HUMANITIES, 346),
    ("moral_scenarios", "Moral Scenarios", HUMANITIES, 895),
    ("nutrition", "Nutrition", OTHER, 306),
    ("philosophy", "Philosophy", HUMANITIES, 311),
    ("prehistory", "Prehistory", HUMANITIES, 324),
    (
        "professional_accounting",
        "Professional Accounting",
        OTHER,
        282,
    ),
    ("professional_law", "Professional Law", HUMANITIES, 1534),
    ("professional_medicine", "Professional Medicine", OTHER, 272),
    (
        "professional_psychology",
        "Professional Psychology",
        SOCIAL_SCIENCES,
        612,
    ),
    ("public_relations", "Public Relations", SOCIAL_SCIENCES, 110),
    ("security_studies", "Security Studies", SOCIAL_SCIENCES, 245),
    ("sociology", "Sociology", SOCIAL_SCIENCES, 201),
    (
        "us_foreign_policy",
        "US Foreign Policy",
        SOCIAL_SCIENCES,
        100,
    ),
    ("virology", "Virology", OTHER, 166),
    ("world_religions", "World Religions", HUMANITIES, 171),
];

struct Mmlu {
    card: Card,
    subject: &'static str,
    category: &'static str,
}

pub(crate) fn tasks() -> Vec<Arc<dyn Task>> {
    let task = |&(subject, title, category, documents): &(
        &'static str,
        &'static str,
        &'static str,
        usize,
    )| {
        let card = Card {
            name: format!("mmlu_{subject}"),
            title,
            version: 1,
            published: Some(("table16_mmlu_subjects", title)),
            group: Some("mmlu"),
            split: "test",
            documents,
            shots: 5,
            metrics: choice::METRICS.into(),
            headline: ("acc".into(), "acc".into()),
            licence: "MIT",
            citation: "Hendrycks et al. 2021, Measuring Massive Multitask Language Understanding, ICLR",
        };
        Arc::new(Mmlu {
            card,
            subject,
            category,
        }) as Arc<dyn Task>
    };
    SUBJECTS.iter().map(task).collect()
}

/// The category of a task's subject, as the benchmark's authors count it.
pub(crate) fn category(task: &str) -> Option<&'static str> {
    let known = SUBJECTS
        .iter()
        .find(|(subject, ..)| task.strip_prefix("mmlu_") == Some(subject));
    known.map(|(_, _, category, _)| *category)
}

impl MultipleChoice for Mmlu {
    fn card(&self) -> &Card {
        &self.card
    }

    fn documents(&self, data: &DataDir, _: Protocol) -> Result<Vec<Document>, DataError> {
        self.read(&data.read(&format!("mmlu/test/{}_test.csv", self.subject))?)
    }

    fn examples(&self, data: &DataDir, _: Protocol) -> Result<Vec<Document>, DataError> {
        self.read(&multiple_choice::read_pool(
            data,
            &[&format!("mmlu/dev/{}_dev.csv", self.subject)],
        )?)
    }

    fn sampler(&self) -> Sampler {
        Sampler::FirstN
    }

    fn description(&self, protocol: Protocol) -> String {
        let template = match protocol {
            Protocol::Paper => PAPER_DESCRIPTION,
            Protocol::LmEval => LM_EVAL_DESCRIPTION,
        };
        let words = self.subject.replace('_', " ");
        text::fill(template, |name| {
            (name == "subject").then_some(words.as_str())
        })
    }

    fn question(&self, document: &Document, protocol: Protocol) -> String {
        let question = document.text("question");
        let choices = document.fields.get("choices");
        text::fill(PROMPT, |name| match (name, protocol) {
            ("question", Protocol::Paper) => Some(question),
            ("question", Protocol::LmEval) => Some(text::strip(question)),
            (letter, _) => choices?.get(letter_index(letter)?)?.as_str(),
        })
    }

    fn choices(&self, _: &Document) -> Vec<String> {
        LETTERS.map(str::to_owned).into()
    }

    fn gold(&self, document: &Document) -> usize {
        document.number("answer")
    }
}

fn letter_index(letter: &str) -> Option<usize> {
    LETTERS.iter().position(|known| *known == letter)
}

impl Mmlu {
    fn read(&self, file: &DataFile) -> Result<Vec<Document>, DataError> {
        let records = reader::csv_rows(file, Header::Absent(COLUMNS))?;
        let mut documents = multiple_choice::documents(&records, |index, record| {
            let answer = record.text("answer")?;
            let choices = LETTERS.map(|letter| record.text(letter));
            let gold = letter_index(answer).ok_or_else(|| {
                record.error(format!("the gold answer {answer:?} is none of {LETTERS:?}"))
            })?;
            let fields = multiple_choice::fields([
                ("question", json!(record.text("question")?)),
                ("subject", json!(self.subject)),
                (
                    "choices",
                    json!(choices.into_iter().collect::<Result<Vec<_>, _>>()?),
                ),
                ("answer", json!(gold)),
            ]);
            Ok((format!("{}:{}", file.name, index + 1), fields))
        })?;
        for document in &mut documents {
            document.categories = vec![self.category.to_owned()];
        }
        Ok(documents)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::multiple_choice::tests::{file, questions};

    #[test]
    fn the_paper_writes_two_spaces_and_keeps_the_question_as_it_is() {
        let subject = |name: &str| {
            let &(subject, title, category, _) =
                SUBJECTS.iter().find(|subject| subject.0 == name).unwrap();
            let card = Card {
                title,
                ..tasks()[0].card().clone()
            };
            Mmlu {
                card,
                subject,
                category,
            }
        };
        let task = subject("us_foreign_policy");
        let about = [
            "about  us foreign policy.\n\n",
            "about us foreign policy.\n\n",
        ];
        for (protocol, about) in [Protocol::Paper, Protocol::LmEval].into_iter().zip(about) {
            assert!(MultipleChoice::description(&task, protocol).ends_with(about));
        }
        let documents = task
            .read(&file("x_test.csv", b"\" Is it, {A}? \",1,2,3,4,C\n"))
            .unwrap();
        let rest = "\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer:";
        let wanted = [" Is it, {A}? ", "Is it, {A}?"].map(|question| format!("{question}{rest}"));
        assert_eq!(questions(&task, &documents[0]), wanted);
        assert_eq!(
            task.example(&documents[0], Protocol::Paper),
            format!("{} C\n\n", wanted[0])
        );
        assert_eq!(documents[0].categories, [SOCIAL_SCIENCES]);
        assert_eq!(subject("anatomy").category, OTHER);
    }

    #[test]
    fn the_subjects_are_57_with_14042_questions() {
        assert_eq!(
            tasks()
                .iter()
                .map(|task| task.card().documents)
                .sum::<usize>(),
            14042
        );
    }

    #[test]
    fn a_row_without_gold_answer_is_an_error_with_its_line() {
        let task = Mmlu {
            card: tasks()[0].card().clone(),
            subject: "virology",
            category: OTHER,
        };
        let error = task
            .read(&file("virology_test.csv", b"q,1,2,3,4,A\nq,1,2,3,4,E\n"))
            .unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("virology_test.csv:2: the gold answer \"E\""),
            "{error}"
        );
    }
}
