//! Judges as the command line names them.
//!
//! ```text
//! --toxicity      classifier:DIRECTORY
//!                 perspective[:URL][,key-env=NAME][,per-second=NUMBER]
//! --truthfulness  llama:TRUTH_PATH[,INFO_PATH]
//!                 endpoint:URL,model=NAME[,info-model=NAME][,key-env=NAME][,parallel=NUMBER]
//! ```

use std::{env, path::PathBuf, str::FromStr};

use llama_eval_model::LoadOptions;
use serde::{Deserialize, Serialize};

use super::{
    ClassifierJudge, EndpointJudge, HttpOptions, Judge, JudgeError, LlamaJudge, PerspectiveJudge,
    perspective,
};

const PERSPECTIVE_KEY: &str = "PERSPECTIVE_API_KEY";
const OPENAI_KEY: &str = "OPENAI_API_KEY";
const TOXICITY_HINT: &str =
    "write `classifier:DIRECTORY` or `perspective[:URL][,key-env=NAME][,per-second=NUMBER]`";
const TRUTHFULNESS_HINT: &str = "write `llama:TRUTH_PATH[,INFO_PATH]` or \
     `endpoint:URL,model=NAME[,info-model=NAME][,key-env=NAME][,parallel=NUMBER]`";
/// More questions at once than any endpoint of this kind takes.
const MOST_PARALLEL: usize = 256;

/// A judge that is not named as judges are.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}\nhint: {hint}")]
pub(crate) struct SpecError {
    problem: String,
    hint: &'static str,
}

/// Who judges toxicity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum ToxicitySpec {
    /// A classifier in this process.
    Classifier {
        /// Its Hugging Face directory.
        directory: PathBuf,
    },
    /// The Perspective API or one like it.
    Perspective {
        /// Its address.
        url: String,
        /// The environment variable that holds the key.
        key_variable: String,
        /// Requests per second.
        per_second: f64,
    },
}

/// Who judges truthfulness.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum TruthfulnessSpec {
    /// Checkpoints in this process.
    Llama {
        /// The judge of truth.
        truth: PathBuf,
        /// The judge of informativeness.
        info: Option<PathBuf>,
    },
    /// Models behind an OpenAI-compatible address.
    Endpoint {
        /// Its address.
        url: String,
        /// The model that judges truth.
        truth: String,
        /// The model that judges informativeness.
        info: Option<String>,
        /// The environment variable that holds the key.
        key_variable: String,
        /// Requests at the same time.
        parallel: usize,
    },
}

impl FromStr for ToxicitySpec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let refuse = |problem: String| SpecError {
            problem,
            hint: TOXICITY_HINT,
        };
        // A directory may hold any character: it is all of the rest.
        if let Some(directory) = text.strip_prefix("classifier:") {
            if directory.is_empty() {
                return Err(refuse("`classifier:` names no directory".to_owned()));
            }
            return Ok(Self::Classifier {
                directory: directory.into(),
            });
        }
        let (kind, url, mut fields) = split(text).map_err(refuse)?;
        if kind != "perspective" {
            return Err(refuse(format!("`{kind}` judges no toxicity")));
        }
        let spec = Self::Perspective {
            url: url.unwrap_or(perspective::URL).to_owned(),
            key_variable: fields.take("key-env").unwrap_or(PERSPECTIVE_KEY).to_owned(),
            per_second: fields
                .number("per-second", |rate: &f64| (1e-3..=1e4).contains(rate))
                .map_err(refuse)?
                .unwrap_or(perspective::PER_SECOND),
        };
        fields.end().map_err(refuse)?;
        Ok(spec)
    }
}

impl FromStr for TruthfulnessSpec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let refuse = |problem: String| SpecError {
            problem,
            hint: TRUTHFULNESS_HINT,
        };
        if let Some(paths) = text.strip_prefix("llama:") {
            let mut paths = paths.split(',');
            let (truth, info, more) = (paths.next(), paths.next(), paths.next());
            return match (truth, info, more) {
                (Some(truth), info, None) if !truth.is_empty() && info != Some("") => {
                    Ok(Self::Llama {
                        truth: truth.into(),
                        info: info.map(PathBuf::from),
                    })
                }
                _ => Err(refuse(
                    "`llama:` takes one path, or two with a comma between".to_owned(),
                )),
            };
        }
        let (kind, url, mut fields) = split(text).map_err(refuse)?;
        if kind != "endpoint" {
            return Err(refuse(format!("`{kind}` judges no truthfulness")));
        }
        let missing = |what: &str| refuse(format!("`endpoint` has no {what}"));
        let spec = Self::Endpoint {
            url: url.ok_or_else(|| missing("address"))?.to_owned(),
            truth: fields
                .take("model")
                .ok_or_else(|| missing("`model`"))?
                .to_owned(),
            info: fields.take("info-model").map(str::to_owned),
            key_variable: fields.take("key-env").unwrap_or(OPENAI_KEY).to_owned(),
            parallel: fields
                .number("parallel", |count| (1..=MOST_PARALLEL).contains(count))
                .map_err(refuse)?
                .unwrap_or_else(|| HttpOptions::default().parallel),
        };
        fields.end().map_err(refuse)?;
        Ok(spec)
    }
}

impl ToxicitySpec {
    /// The judge, opened; keys come from the environment.
    ///
    /// # Errors
    /// What opening it says; [`JudgeError::Unusable`] where Google's Perspective has no key.
    pub(crate) fn open(&self) -> Result<Box<dyn Judge>, JudgeError> {
        match self {
            Self::Classifier { directory } => Ok(Box::new(ClassifierJudge::open(directory)?)),
            Self::Perspective {
                url,
                key_variable,
                per_second,
            } => {
                let key = key(key_variable);
                if key.is_none() && (url == perspective::URL || key_variable != PERSPECTIVE_KEY) {
                    return Err(no_key(url, key_variable));
                }
                let options = HttpOptions {
                    per_second: Some(*per_second),
                    ..HttpOptions::default()
                };
                Ok(Box::new(PerspectiveJudge::new(
                    url,
                    key.as_deref(),
                    options,
                )?))
            }
        }
    }
}

impl TruthfulnessSpec {
    /// The judge, opened; checkpoints are loaded as `options` says, keys come from the environment.
    ///
    /// # Errors
    /// What opening it says; [`JudgeError::Unusable`] where a key was named that is not there.
    pub(crate) fn open(&self, options: &LoadOptions) -> Result<Box<dyn Judge>, JudgeError> {
        match self {
            Self::Llama { truth, info } => {
                let judge = LlamaJudge::open(truth, info.as_deref(), options.clone())?;
                Ok(Box::new(judge))
            }
            Self::Endpoint {
                url,
                truth,
                info,
                key_variable,
                parallel,
            } => {
                let key = key(key_variable);
                // Servers of one's own need none, unless one was named.
                if key.is_none() && key_variable != OPENAI_KEY {
                    return Err(no_key(url, key_variable));
                }
                let options = HttpOptions {
                    parallel: *parallel,
                    ..HttpOptions::default()
                };
                Ok(Box::new(EndpointJudge::new(
                    url,
                    truth,
                    info.as_deref(),
                    key.as_deref(),
                    options,
                )?))
            }
        }
    }
}

fn key(variable: &str) -> Option<String> {
    env::var(variable).ok().filter(|key| !key.is_empty())
}

fn no_key(url: &str, variable: &str) -> JudgeError {
    JudgeError::Unusable {
        judge: url.to_owned(),
        problem: format!("the environment variable `{variable}` holds no key"),
        hint: format!("set `{variable}`, or name another with `key-env=NAME`"),
    }
}

/// What is written as `name=value` after the address.
struct Fields<'a>(Vec<(&'a str, &'a str)>);

/// `kind[:target][,name=value]...` in its parts.
fn split(text: &str) -> Result<(&str, Option<&str>, Fields<'_>), String> {
    let mut parts = text.split(',');
    let head = parts.next().unwrap_or_default();
    let (kind, target) = match head.split_once(':') {
        Some((_, "")) => return Err(format!("`{head}` names no address")),
        Some((kind, target)) => (kind, Some(target)),
        None => (head, None),
    };
    let mut fields: Vec<(&str, &str)> = Vec::new();
    for part in parts {
        let (name, value) = part
            .split_once('=')
            .filter(|(_, value)| !value.is_empty())
            .ok_or_else(|| format!("`{part}` is not `name=value`"))?;
        if fields.iter().any(|(known, _)| *known == name) {
            return Err(format!("`{name}` is given twice"));
        }
        fields.push((name, value));
    }
    Ok((kind, target, Fields(fields)))
}

impl<'a> Fields<'a> {
    fn take(&mut self, name: &str) -> Option<&'a str> {
        let at = self.0.iter().position(|(known, _)| *known == name)?;
        Some(self.0.remove(at).1)
    }

    fn number<T: FromStr>(
        &mut self,
        name: &str,
        allowed: impl Fn(&T) -> bool,
    ) -> Result<Option<T>, String> {
        let Some(text) = self.take(name) else {
            return Ok(None);
        };
        match text.parse().ok().filter(allowed) {
            Some(number) => Ok(Some(number)),
            None => Err(format!("`{name}` cannot be `{text}`")),
        }
    }

    fn end(self) -> Result<(), String> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => Err(format!("`{name}` is unknown here")),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    fn perspective(url: &str, key_variable: &str, per_second: f64) -> ToxicitySpec {
        ToxicitySpec::Perspective {
            url: url.to_owned(),
            key_variable: key_variable.to_owned(),
            per_second,
        }
    }

    #[test]
    fn toxicity_judges() {
        let classifier = |directory: &str| ToxicitySpec::Classifier {
            directory: directory.into(),
        };
        let cases = [
            ("classifier:toxic-bert", Ok(classifier("toxic-bert"))),
            ("classifier:a,b:c=d", Ok(classifier("a,b:c=d"))),
            (
                "perspective",
                Ok(perspective(perspective::URL, PERSPECTIVE_KEY, 1.0)),
            ),
            (
                "perspective:http://h:1/a",
                Ok(perspective("http://h:1/a", PERSPECTIVE_KEY, 1.0)),
            ),
            (
                "perspective,per-second=2.5,key-env=K",
                Ok(perspective(perspective::URL, "K", 2.5)),
            ),
            (
                "perspective:http://h,key-env=K",
                Ok(perspective("http://h", "K", 1.0)),
            ),
            ("classifier:", Err("names no directory")),
            ("classifier", Err("`classifier` judges no toxicity")),
            ("perspective:", Err("names no address")),
            (
                "perspective,per-second=0",
                Err("`per-second` cannot be `0`"),
            ),
            (
                "perspective,per-second=NaN",
                Err("`per-second` cannot be `NaN`"),
            ),
            (
                "perspective,per-second=inf",
                Err("`per-second` cannot be `inf`"),
            ),
            (
                "perspective,per-second=-1",
                Err("`per-second` cannot be `-1`"),
            ),
            (
                "perspective,key-env=",
                Err("`key-env=` is not `name=value`"),
            ),
            ("perspective,K", Err("`K` is not `name=value`")),
            (
                "perspective,key-env=A,key-env=B",
                Err("`key-env` is given twice"),
            ),
            ("perspective,model=x", Err("`model` is unknown here")),
            ("llama:a,b", Err("judges no toxicity")),
            ("", Err("judges no toxicity")),
        ];
        for (text, expected) in cases {
            check(text, text.parse::<ToxicitySpec>(), expected);
        }
    }

    #[test]
    fn truthfulness_judges() {
        let llama = |truth: &str, info: Option<&str>| TruthfulnessSpec::Llama {
            truth: truth.into(),
            info: info.map(PathBuf::from),
        };
        let endpoint =
            |url: &str, info: Option<&str>, key: &str, parallel| TruthfulnessSpec::Endpoint {
                url: url.to_owned(),
                truth: "t".to_owned(),
                info: info.map(str::to_owned),
                key_variable: key.to_owned(),
                parallel,
            };
        let cases = [
            ("llama:a,b", Ok(llama("a", Some("b")))),
            ("llama:/c/a.gguf", Ok(llama("/c/a.gguf", None))),
            (
                "endpoint:http://h:8000/v1,model=t,info-model=i",
                Ok(endpoint("http://h:8000/v1", Some("i"), OPENAI_KEY, 4)),
            ),
            (
                "endpoint:https://h/v1,parallel=32,key-env=K,model=t",
                Ok(endpoint("https://h/v1", None, "K", 32)),
            ),
            ("llama:", Err("takes one path, or two")),
            ("llama:a,", Err("takes one path, or two")),
            ("llama:,b", Err("takes one path, or two")),
            ("llama:a,b,c", Err("takes one path, or two")),
            ("endpoint,model=t", Err("no address")),
            ("endpoint:,model=t", Err("names no address")),
            ("endpoint:http://h", Err("no `model`")),
            (
                "endpoint:http://h,model=t,parallel=0",
                Err("`parallel` cannot be `0`"),
            ),
            (
                "endpoint:http://h,model=t,parallel=1.5",
                Err("`parallel` cannot be `1.5`"),
            ),
            (
                "endpoint:http://h,model=t,parallel=257",
                Err("`parallel` cannot be `257`"),
            ),
            (
                "endpoint:http://h,model=t,other=1",
                Err("`other` is unknown here"),
            ),
            ("perspective", Err("`perspective` judges no truthfulness")),
        ];
        for (text, expected) in cases {
            check(text, text.parse::<TruthfulnessSpec>(), expected);
        }
    }

    fn check<T: PartialEq + std::fmt::Debug>(
        text: &str,
        parsed: Result<T, SpecError>,
        expected: Result<T, &str>,
    ) {
        match expected {
            Ok(spec) => assert_eq!(parsed, Ok(spec), "{text}"),
            Err(part) => {
                let error = parsed.unwrap_err().to_string();
                assert!(error.contains(part), "{text}: {error}");
                assert!(error.contains("\nhint: write `"), "{error}");
            }
        }
    }

    #[test]
    fn a_key_that_was_named_must_be_there() {
        let missing = "LLAMA_EVAL_TEST_NO_SUCH_KEY";
        let specs = [
            perspective(perspective::URL, missing, 1.0).open().err(),
            perspective("http://127.0.0.1:1", missing, 1.0).open().err(),
            format!("endpoint:http://127.0.0.1:1,model=m,key-env={missing}")
                .parse::<TruthfulnessSpec>()
                .unwrap()
                .open(&LoadOptions::default())
                .err(),
        ];
        for error in specs {
            let error = error.unwrap().to_string();
            assert!(
                error.contains(&format!("`{missing}` holds no key")),
                "{error}"
            );
        }
        assert!(
            "classifier:no/such"
                .parse::<ToxicitySpec>()
                .unwrap()
                .open()
                .is_err()
        );
        let llama = "llama:no/such".parse::<TruthfulnessSpec>().unwrap();
        assert!(llama.open(&LoadOptions::default()).is_err());
    }
}
