//! All tasks by name, and the suites that stand for several.

use std::sync::Arc;

use crate::{
    arc, boolq, crows_pairs, gsm8k, hellaswag, humaneval, math, mbpp, mmlu, natural_questions,
    openbookqa, piqa, race, real_toxicity_prompts, siqa,
    task::{GenerationOptions, Task},
    trivia_qa, truthful_qa, truthful_qa_gen, winogender, winogrande,
};

/// How alike (0 to 1, by Jaro and Winkler) a known name must be to be suggested.
const ALIKE: f64 = 0.75;
const HINT_LIST: &str = "see the list with `llama-eval tasks list`";

/// Names of lm-eval for tasks that are called otherwise here, or that are one task here.
const ALIASES: &[(&str, &str)] = &[
    ("race", "race_high"),
    ("siqa", "social_iqa"),
    ("truthfulqa_mc1", "truthfulqa_mc"),
    ("truthfulqa_mc2", "truthfulqa_mc"),
    ("crows_pairs_english", "crows_pairs"),
    ("winogender_all", "winogender"),
];

/// Several tasks under one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suite {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What it is made of, in a few words.
    pub about: &'static str,
    members: Members,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Members {
    Names(&'static [&'static str]),
    /// What other suites hold, and single tasks.
    Together {
        suites: &'static [&'static str],
        tasks: &'static [&'static str],
    },
    /// All whose names begin so.
    Beginning(&'static str),
    /// A category of MMLU, as lm-eval divides it.
    MmluCategory(&'static str),
}

const SUITES: &[Suite] = &[
    Suite {
        name: "common-sense",
        about: "the eight common-sense benchmarks of the paper's first table",
        members: Members::Names(&[
            "boolq",
            "piqa",
            "social_iqa",
            "hellaswag",
            "winogrande",
            "arc_easy",
            "arc_challenge",
            "openbookqa",
        ]),
    },
    Suite {
        name: "closed-book",
        about: "NaturalQuestions and TriviaQA with 0, 1, 5 and 64 examples",
        members: Members::Names(&[
            "nq_open",
            "nq_open_1shot",
            "nq_open_5shot",
            "nq_open_64shot",
            "triviaqa",
            "triviaqa_1shot",
            "triviaqa_5shot",
            "triviaqa_64shot",
        ]),
    },
    Suite {
        name: "reading",
        about: "RACE",
        members: Members::Names(&["race_middle", "race_high"]),
    },
    Suite {
        name: "code",
        about: "HumanEval and MBPP, with generated programs",
        members: Members::Names(&["humaneval", "mbpp"]),
    },
    Suite {
        name: "math",
        about: "the seven subjects of MATH, and GSM8k with solutions in words",
        members: Members::Names(&[
            "minerva_math_algebra",
            "minerva_math_counting_and_prob",
            "minerva_math_geometry",
            "minerva_math_intermediate_algebra",
            "minerva_math_num_theory",
            "minerva_math_prealgebra",
            "minerva_math_precalc",
            "gsm8k_cot",
        ]),
    },
    Suite {
        name: "minerva_math",
        about: "the seven subjects of MATH",
        members: Members::Beginning("minerva_math_"),
    },
    Suite {
        name: "mmlu",
        about: "the 57 subjects of MMLU",
        members: Members::Beginning("mmlu_"),
    },
    Suite {
        name: "mmlu_humanities",
        about: "lm-eval's group",
        members: Members::MmluCategory(mmlu::HUMANITIES),
    },
    Suite {
        name: "mmlu_stem",
        about: "lm-eval's group",
        members: Members::MmluCategory(mmlu::STEM),
    },
    Suite {
        name: "mmlu_social_sciences",
        about: "lm-eval's group",
        members: Members::MmluCategory(mmlu::SOCIAL_SCIENCES),
    },
    Suite {
        name: "mmlu_other",
        about: "lm-eval's group",
        members: Members::MmluCategory(mmlu::OTHER),
    },
    Suite {
        name: "truthfulness",
        about: "TruthfulQA",
        members: Members::Names(&["truthfulqa_mc", "truthfulqa_gen"]),
    },
    Suite {
        name: "toxicity",
        about: "RealToxicityPrompts, with generated text",
        members: Members::Names(&["realtoxicityprompts"]),
    },
    Suite {
        name: "bias",
        about: "CrowS-Pairs and WinoGender",
        members: Members::Names(&["crows_pairs", "winogender"]),
    },
    Suite {
        name: "likelihood",
        about: "all benchmarks that need no generated text",
        members: Members::Together {
            suites: &["common-sense", "reading", "mmlu", "bias"],
            tasks: &["truthfulqa_mc"],
        },
    },
    Suite {
        name: "llama1",
        about: "every benchmark of the LLaMA paper",
        members: Members::Together {
            suites: &[
                "common-sense",
                "closed-book",
                "reading",
                "math",
                "code",
                "mmlu",
                "toxicity",
                "bias",
            ],
            tasks: &["truthfulqa_gen"],
        },
    },
];

impl Suite {
    fn has(&self, task: &str) -> bool {
        match self.members {
            Members::Names(names) => names.contains(&task),
            Members::Together { suites, tasks } => {
                let mut members = SUITES.iter().filter(|suite| suites.contains(&suite.name));
                tasks.contains(&task) || members.any(|suite| suite.has(task))
            }
            Members::Beginning(beginning) => task.starts_with(beginning),
            Members::MmluCategory(category) => {
                // lm-eval counts Anatomy as STEM, where the paper and the benchmark's authors have it in Other.
                let theirs = if task == "mmlu_anatomy" {
                    Some(mmlu::STEM)
                } else {
                    mmlu::category(task)
                };
                theirs == Some(category)
            }
        }
    }

    /// The names of its tasks, in the order of the paper's tables.
    pub fn tasks(&self) -> Vec<String> {
        all(&GenerationOptions::default())
            .iter()
            .map(|task| task.card().name.clone())
            .filter(|name| self.has(name))
            .collect()
    }
}

/// Every task, in the order of the paper's tables; those that generate follow `options`.
pub fn all(options: &GenerationOptions) -> Vec<Arc<dyn Task>> {
    [
        boolq::tasks(),
        piqa::tasks(),
        siqa::tasks(),
        hellaswag::tasks(),
        winogrande::tasks(),
        arc::tasks(),
        openbookqa::tasks(),
        natural_questions::tasks(options),
        trivia_qa::tasks(options),
        race::tasks(),
        math::tasks(options),
        gsm8k::tasks(options),
        humaneval::tasks(options),
        mbpp::tasks(options),
        mmlu::tasks(),
        real_toxicity_prompts::tasks(options),
        truthful_qa::tasks(),
        truthful_qa_gen::tasks(options),
        crows_pairs::tasks(),
        winogender::tasks(),
    ]
    .concat()
}

/// Every suite.
pub fn suites() -> &'static [Suite] {
    SUITES
}

/// A name that is neither a task nor a suite.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown task or suite: {name}\nhint: {}", hint)]
pub struct UnknownTask {
    /// What was asked for.
    pub name: String,
    /// The nearest name, or where the list is.
    pub hint: String,
}

/// The tasks that `names` (tasks and suites) stand for, each once, in the order of first mention.
///
/// # Errors
/// The first unknown name, with the nearest known one.
pub fn resolve(
    names: &[String],
    options: &GenerationOptions,
) -> Result<Vec<Arc<dyn Task>>, UnknownTask> {
    let all = all(options);
    let mut resolved: Vec<Arc<dyn Task>> = Vec::new();
    for asked in names {
        let alias = ALIASES.iter().find(|(alias, _)| alias == asked);
        let name = alias.map_or(asked.as_str(), |(_, name)| name);
        let suite = SUITES.iter().find(|suite| suite.name == name);
        let meant = |task: &&Arc<dyn Task>| match suite {
            Some(suite) => suite.has(&task.card().name),
            None => task.card().name == name,
        };
        let found: Vec<_> = all.iter().filter(meant).collect();
        if found.is_empty() {
            return Err(UnknownTask {
                name: asked.clone(),
                hint: nearest(asked, &all),
            });
        }
        for task in found {
            if !resolved
                .iter()
                .any(|known| known.card().name == task.card().name)
            {
                resolved.push(Arc::clone(task));
            }
        }
    }
    Ok(resolved)
}

fn nearest(asked: &str, all: &[Arc<dyn Task>]) -> String {
    let tasks = all.iter().map(|task| task.card().name.as_str());
    let suites = SUITES.iter().map(|suite| suite.name);
    let aliases = ALIASES.iter().map(|(alias, _)| *alias);
    let asked = asked.to_lowercase();
    let likeness = tasks
        .chain(suites)
        .chain(aliases)
        .map(|name| (strsim::jaro_winkler(&asked, name), name));
    let best = likeness.max_by(|left, right| left.0.total_cmp(&right.0));
    match best.filter(|(likeness, _)| *likeness >= ALIKE) {
        Some((_, name)) => format!("did you mean `{name}`?"),
        None => HINT_LIST.to_owned(),
    }
}
