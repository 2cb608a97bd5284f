//! Under which name an answer is stored: a hash of everything it depends on, and of nothing else.

use std::sync::Arc;

use llama_eval_model::{Generation, Identity, Preamble, Prompt, Request, Sampling};
use llama_eval_tasks::Check;
use sha2::{Digest, Sha256};

/// Raised when equal keys would no longer mean equal answers.
const FORMAT: &[u8] = b"llama-eval answer 1";

/// As [`FORMAT`], for verdicts.
const CHECK_FORMAT: &[u8] = b"llama-eval verdict 1";

/// SHA-256 over the model's identity and the request, or over a judge's identity and what it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key(pub(crate) [u8; 32]);

/// Makes keys for one model.
pub(crate) struct Keys {
    model: [u8; 32],
    // Thousands of requests in a row share one preamble.
    preamble: Option<(Arc<Preamble>, [u8; 32])>,
    // Hundreds of samples in a row share one generation.
    generation: Option<(Arc<Generation>, [u8; 32])>,
}

/// The key of a verdict on `check` by the judge that calls itself `judge`.
pub(crate) fn check_key(judge: &str, check: &Check) -> Key {
    let texts = check.texts().into_iter().map(str::as_bytes);
    let parts = [CHECK_FORMAT, judge.as_bytes(), check.kind().as_bytes()];
    Key(hash(parts.into_iter().chain(texts)))
}

impl Keys {
    /// Name, source and device number do not count: they change no answer.
    pub(crate) fn new(identity: &Identity) -> Self {
        let fields = same_answers(identity);
        let parts = [FORMAT]
            .into_iter()
            .chain(fields.iter().map(|(_, value)| value.as_bytes()));
        Self {
            model: hash(parts),
            preamble: None,
            generation: None,
        }
    }

    /// The key of `request`. Equal texts in different parts differ: shortening drops whole examples.
    pub(crate) fn key(&mut self, request: &Request) -> Option<Key> {
        match request {
            Request::LogLikelihood {
                prompt: Prompt { preamble, question },
                continuation,
            } => {
                let preamble = self.preamble(preamble);
                let parts = [b"log-likelihood".as_slice(), &self.model, &preamble];
                Some(Key(hash(
                    parts
                        .into_iter()
                        .chain([question.as_bytes(), continuation.as_bytes()]),
                )))
            }
            Request::Generate { generation, sample } => {
                let generation = self.generation(generation);
                let parts = [
                    b"generate".as_slice(),
                    &self.model,
                    &generation,
                    &sample.to_le_bytes(),
                ];
                Some(Key(hash(parts.into_iter())))
            }
            _ => None,
        }
    }

    fn generation(&mut self, generation: &Arc<Generation>) -> [u8; 32] {
        if let Some((last, hash)) = &self.generation
            && Arc::ptr_eq(last, generation)
        {
            return *hash;
        }
        let preamble = self.preamble(&generation.prompt.preamble);
        let limit = (generation.max_new_tokens as u64).to_le_bytes();
        let sampling = match generation.sampling {
            Sampling::Greedy => Vec::new(),
            Sampling::Random {
                temperature,
                top_p,
                top_k,
                seed,
            } => [
                &temperature.to_le_bytes()[..],
                &top_p.to_le_bytes(),
                &(top_k as u64).to_le_bytes(),
                &seed.to_le_bytes(),
            ]
            .concat(),
        };
        let question = generation.prompt.question.as_bytes();
        let parts = [preamble.as_slice(), question, &limit, &sampling];
        let stop = generation.stop.iter().map(String::as_bytes);
        let hash = hash(parts.into_iter().chain(stop));
        self.generation = Some((Arc::clone(generation), hash));
        hash
    }

    fn preamble(&mut self, preamble: &Arc<Preamble>) -> [u8; 32] {
        if let Some((last, hash)) = &self.preamble
            && Arc::ptr_eq(last, preamble)
        {
            return *hash;
        }
        let parts = [preamble.description.as_bytes()].into_iter();
        let hash = hash(parts.chain(preamble.examples.iter().map(String::as_bytes)));
        self.preamble = Some((Arc::clone(preamble), hash));
        hash
    }
}

/// What of an identity its answers depend on, by the name people know it by.
pub(crate) fn same_answers(identity: &Identity) -> Vec<(&'static str, String)> {
    let kind = identity.device.split(':').next().unwrap_or_default();
    vec![
        ("weights", identity.weights_sha256.clone()),
        ("tokenizer", identity.tokenizer_sha256.clone()),
        ("--dtype", identity.dtype.clone()),
        ("--device", kind.to_owned()),
        (
            "--bos",
            if identity.adds_bos { "always" } else { "never" }.to_owned(),
        ),
        ("--max-length", identity.context_length.to_string()),
    ]
}

/// Each part is preceded by its length, so that no two lists of parts hash alike.
fn hash<'a>(parts: impl Iterator<Item = &'a [u8]>) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;
    use crate::scripted::identity;

    fn request(
        description: &str,
        examples: &[&str],
        question: &str,
        continuation: &str,
    ) -> Request {
        let examples = examples.iter().map(|&example| example.to_owned()).collect();
        let preamble = Arc::new(Preamble {
            description: description.to_owned(),
            examples,
        });
        let prompt = Prompt {
            preamble,
            question: question.to_owned(),
        };
        Request::LogLikelihood {
            prompt,
            continuation: continuation.to_owned(),
        }
    }

    #[test]
    fn moving_a_border_changes_the_key() {
        let mut keys = Keys::new(&identity());
        let requests = [
            request("", &[], "ab", "c"),
            request("", &[], "a", "bc"),
            request("", &["a"], "b", "c"),
            request("a", &[], "b", "c"),
            request("", &["", "a"], "b", "c"),
            request("", &["a", ""], "b", "c"),
            request("", &[], "abc", ""),
            request("", &[], "", "abc"),
        ];
        let unique: HashSet<_> = requests
            .iter()
            .map(|request| keys.key(request).unwrap())
            .collect();
        assert_eq!(unique.len(), requests.len());
    }

    #[test]
    fn another_model_has_other_keys() {
        let question = request("", &[], "a", "b");
        let key = |change: &dyn Fn(&mut Identity)| {
            let mut identity = identity();
            change(&mut identity);
            Keys::new(&identity).key(&question).unwrap()
        };
        let same = key(&|_| ());
        let changes: [&dyn Fn(&mut Identity); 6] = [
            &|identity| identity.weights_sha256.push('0'),
            &|identity| identity.tokenizer_sha256.push('0'),
            &|identity| identity.dtype = "bf16".to_owned(),
            &|identity| identity.device = "cuda:0".to_owned(),
            &|identity| identity.adds_bos = !identity.adds_bos,
            &|identity| identity.context_length += 1,
        ];
        let unique: HashSet<_> = changes.into_iter().map(key).chain([same]).collect();
        assert_eq!(unique.len(), 7);
        // Where a checkpoint lies, and which of several equal devices computes, makes no difference.
        assert_eq!(
            key(&|identity| identity.source = "elsewhere".to_owned()),
            same
        );
        assert_eq!(key(&|identity| identity.name = "renamed".to_owned()), same);
        let device = |name: &'static str| key(&|identity| identity.device = name.to_owned());
        assert_eq!(device("cuda:0"), device("cuda:1"));
    }

    proptest! {
        #[test]
        fn remembering_the_preamble_changes_no_key(examples in prop::collection::vec(".{0,3}", 0..3), order in prop::collection::vec(0..2usize, 1..8)) {
            let texts: Vec<_> = examples.iter().map(String::as_str).collect();
            let requests = [request("d", &texts, "q", "c"), request("d", &[], "q", "c")];
            let mut keys = Keys::new(&identity());
            for index in order {
                prop_assert_eq!(keys.key(&requests[index]), Keys::new(&identity()).key(&requests[index]));
            }
        }
    }
}
