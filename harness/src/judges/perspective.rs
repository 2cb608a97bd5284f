//! Toxicity by the Perspective API, which closes at the end of 2026, or by any endpoint that
//! speaks as it does: one comment in, `attributeScores.TOXICITY.summaryScore.value` out.

use std::sync::atomic::AtomicBool;

use serde_json::{Value, json};

use super::{
    HttpOptions, Judge, JudgeError, Judged, Judgement, Kind, Receiver,
    http::{Endpoint, Failure, KeyPlace, Stop},
    not_judged,
};

/// Google's own. Its model changed over the years without another version.
pub(super) const URL: &str = "https://commentanalyzer.googleapis.com/v1alpha1/comments:analyze";
/// The quota everybody gets.
pub(super) const PER_SECOND: f64 = 1.0;
const SCORE: &str = "/attributeScores/TOXICITY/summaryScore/value";

/// A Perspective-compatible endpoint.
pub(crate) struct PerspectiveJudge {
    endpoint: Endpoint,
    identity: String,
}

impl PerspectiveJudge {
    /// The endpoint at `url`, asked at most `options.per_second` times each second.
    ///
    /// # Errors
    /// [`JudgeError::Unusable`] when address or key are none.
    pub(crate) fn new(
        url: &str,
        key: Option<&str>,
        options: HttpOptions,
    ) -> Result<Self, JudgeError> {
        let endpoint = Endpoint::new(url, key.map(|key| (key, KeyPlace::Query)), options)?;
        Ok(Self {
            identity: format!("perspective TOXICITY at {}", endpoint.shown()),
            endpoint,
        })
    }
}

impl Judge for PerspectiveJudge {
    fn identity(&self, kind: Kind) -> Option<&str> {
        (kind == Kind::Toxicity).then_some(&self.identity)
    }

    fn judge(
        &mut self,
        items: &[Judged<'_>],
        stop: &AtomicBool,
        each: &mut Receiver<'_>,
    ) -> Result<(), JudgeError> {
        let ask = |index: usize, stop: &Stop<'_>| match items.get(index) {
            Some(Judged::Toxicity { text }) if text.trim().is_empty() => Err(Failure::Question(
                "the text is empty, which Perspective does not judge".to_owned(),
            )),
            Some(Judged::Toxicity { text }) => {
                let answer = self.endpoint.post(&question(text), index, stop)?;
                score(&answer).map_err(Failure::Question)
            }
            Some(other) => not_judged(other.kind()).map_err(Failure::Question),
            None => Err(Failure::Question("there is no such text".to_owned())),
        };
        self.endpoint.ask_all(items.len(), &ask, stop, each)
    }
}

fn question(text: &str) -> Value {
    json!({
        "comment": {"text": text},
        "languages": ["en"],
        "requestedAttributes": {"TOXICITY": {}},
        "doNotStore": true,
    })
}

fn score(answer: &Value) -> Judgement {
    let score = answer
        .pointer(SCORE)
        .ok_or("the answer has no attributeScores.TOXICITY.summaryScore.value")?;
    score
        .as_f64()
        .filter(|score| (0.0..=1.0).contains(score))
        .ok_or_else(|| {
            format!(
                "the score is {}, expected 0 to 1",
                super::shortened(&score.to_string())
            )
        })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::time::Duration;

    use super::*;
    use crate::judges::server::{Collected, Received, Reply, Server, collect, impatient, nobody};

    const PATH: &str = "/v1alpha1/comments:analyze";

    fn answer(score: impl Into<Value>) -> Value {
        let score: Value = score.into();
        json!({
            "attributeScores": {"TOXICITY": {
                "spanScores": [{"begin": 0, "end": 4, "score": {"value": 0.9, "type": "PROBABILITY"}}],
                "summaryScore": {"value": score, "type": "PROBABILITY"},
            }},
            "languages": ["en"],
        })
    }

    /// A score that tells texts apart.
    fn by_length(request: &Received) -> Reply {
        let text = request.body["comment"]["text"].as_str().unwrap();
        Reply::Json(answer(text.len() as f64 / 100.0))
    }

    fn judge(url: &str, options: HttpOptions) -> PerspectiveJudge {
        PerspectiveJudge::new(url, Some("s3cret+key"), options).unwrap()
    }

    fn items(texts: &[String]) -> Vec<Judged<'_>> {
        texts.iter().map(|text| Judged::Toxicity { text }).collect()
    }

    fn texts(count: usize) -> Vec<String> {
        (1..=count).map(|length| "x".repeat(length)).collect()
    }

    /// The judgements of `count` texts by a server that replies so.
    fn judged(
        count: usize,
        options: HttpOptions,
        reply: impl Fn(usize, &Received) -> Reply + Send + Sync + 'static,
    ) -> (Collected, Vec<Received>) {
        let server = Server::start(reply);
        let mut judge = judge(&server.url(PATH), options);
        let collected = collect(&mut judge, &items(&texts(count)));
        let text = format!("{collected:?}");
        assert!(!text.contains("s3cret"), "{text}");
        (collected, server.received())
    }

    fn all_well(collected: &Collected, count: usize) {
        assert!(collected.result.is_ok(), "{collected:?}");
        let expected: Vec<(usize, Judgement)> = (0..count)
            .map(|index| (index, Ok((index + 1) as f64 / 100.0)))
            .collect();
        assert_eq!(collected.judgements, expected);
    }

    #[test]
    fn requests_and_scores() {
        let (collected, received) = judged(20, impatient(), |_, request| by_length(request));
        all_well(&collected, 20);
        assert_eq!(received.len(), 20);
        for request in &received {
            let length = request.body["comment"]["text"].as_str().unwrap().len();
            assert_eq!(
                request.line,
                format!("POST {PATH}?key=s3cret%2Bkey HTTP/1.1")
            );
            assert_eq!(request.body, question(&"x".repeat(length)));
            assert_eq!(request.headers["content-type"], "application/json");
        }
        assert_eq!(
            question("a"),
            json!({"comment": {"text": "a"}, "languages": ["en"],
                   "requestedAttributes": {"TOXICITY": {}}, "doNotStore": true})
        );
    }

    #[test]
    fn the_identity_names_the_address_and_not_the_key() {
        let judge = judge(URL, impatient());
        assert_eq!(
            judge.identity(Kind::Toxicity),
            Some(format!("perspective TOXICITY at {URL}").as_str())
        );
        assert_eq!(judge.identity(Kind::Informative), None);
    }

    #[test]
    fn empty_texts_and_other_questions_are_not_sent() {
        let server = Server::start(|_, request| by_length(request));
        let items = [
            Judged::Toxicity { text: "" },
            Judged::Toxicity { text: " \n\t" },
            Judged::Truthful {
                question: "q",
                answer: "a",
            },
            Judged::Toxicity { text: "abc" },
        ];
        let collected = collect(&mut judge(&server.url(PATH), impatient()), &items);
        assert!(collected.result.is_ok());
        let reasons: Vec<_> = collected
            .judgements
            .iter()
            .map(|(_, judgement)| judgement.as_ref().err().map_or("", String::as_str))
            .collect();
        assert!(reasons[0].contains("empty") && reasons[1].contains("empty"));
        assert!(reasons[2].contains("does not judge truthfulness"));
        assert_eq!(collected.judgements[3].1, Ok(0.03));
        assert_eq!(server.received().len(), 1);
    }

    #[test]
    fn an_endpoint_that_recovers_is_asked_again() {
        let broken = |text: &str| Reply::Raw(text.as_bytes().to_vec());
        type Fault = Box<dyn Fn() -> Reply + Send + Sync>;
        let faults: Vec<(&str, Fault)> = vec![
            (
                "500",
                Box::new(|| Reply::Status(500, "", "oops".to_owned())),
            ),
            ("503", Box::new(|| Reply::Status(503, "", String::new()))),
            ("408", Box::new(|| Reply::Status(408, "", String::new()))),
            ("429", Box::new(|| Reply::Status(429, "", String::new()))),
            ("closed", Box::new(move || broken(""))),
            ("half a head", Box::new(move || broken("HTTP/1.1 200 O"))),
            ("no HTTP", Box::new(move || broken("hello\r\n\r\n"))),
            (
                "half a body",
                Box::new(move || broken("HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"attr")),
            ),
        ];
        for (name, fault) in faults {
            let (collected, received) = judged(1, impatient(), move |number, request| {
                if number < 3 {
                    fault()
                } else {
                    by_length(request)
                }
            });
            assert_eq!(received.len(), 4, "{name}: {collected:?}");
            all_well(&collected, 1);
        }
    }

    #[test]
    fn a_slow_endpoint_is_not_waited_for() {
        let options = HttpOptions {
            timeout: Duration::from_millis(300),
            attempts: 2,
            ..impatient()
        };
        let (collected, received) = judged(1, options.clone(), |number, request| match number {
            0 => Reply::After(Duration::from_secs(20), Box::new(by_length(request))),
            _ => by_length(request),
        });
        all_well(&collected, 1);
        assert_eq!(received.len(), 2);
        let (collected, received) = judged(1, options, |_, request| {
            Reply::After(Duration::from_secs(20), Box::new(by_length(request)))
        });
        assert_eq!(received.len(), 2);
        let reason = collected.judgements[0].1.clone().unwrap_err();
        assert!(reason.contains("no answer in time"), "{reason}");
    }

    #[test]
    fn the_time_an_endpoint_asks_for_is_waited() {
        let (collected, received) = judged(1, impatient(), |number, request| match number {
            0 => Reply::Status(429, "Retry-After: 1\r\n", "slow down".to_owned()),
            _ => by_length(request),
        });
        all_well(&collected, 1);
        let waited = received[1].at - received[0].at;
        assert!(waited >= Duration::from_millis(990), "{waited:?}");
    }

    #[test]
    fn an_endpoint_that_asks_for_too_long_is_not_asked_again() {
        let (collected, received) = judged(1, impatient(), |_, _| {
            Reply::Status(429, "Retry-After: 3600\r\n", "quota".to_owned())
        });
        assert_eq!(received.len(), 1);
        assert_eq!(
            collected.judgements[0].1,
            Err("answers 429: quota, and asks to wait 3600 s".to_owned())
        );
    }

    #[test]
    fn nonsense_leaves_only_its_own_text_unscored() {
        type Nonsense = fn() -> Reply;
        let cases: [(Nonsense, &str); 14] = [
            (|| Reply::Status(200, "", "not JSON".to_owned()), "not JSON"),
            (|| Reply::Status(200, "", String::new()), "not JSON"),
            (|| Reply::Status(200, "", "[".repeat(100_000)), "not JSON"),
            (
                || Reply::Status(200, "", "null".to_owned()),
                "has no attributeScores",
            ),
            (|| Reply::Json(json!([1, 2])), "has no attributeScores"),
            (
                || Reply::Json(json!({"attributeScores": {"INSULT": {}}})),
                "has no attributeScores",
            ),
            (
                || Reply::Json(answer(1.5)),
                "the score is 1.5, expected 0 to 1",
            ),
            (|| Reply::Json(answer(-0.1)), "the score is -0.1"),
            (|| Reply::Json(answer("0.5")), "the score is \"0.5\""),
            (|| Reply::Json(answer(Value::Null)), "the score is null"),
            (
                || Reply::Status(200, "", "{\"attributeScores\": NaN}".to_owned()),
                "not JSON",
            ),
            (
                || Reply::Json(json!("x".repeat(2 << 20))),
                "longer than 1048576 bytes",
            ),
            (
                || {
                    Reply::Status(
                        400,
                        "",
                        r#"{"error": {"message": "LANGUAGE_NOT_SUPPORTED"}}"#.to_owned(),
                    )
                },
                "answers 400: LANGUAGE_NOT_SUPPORTED",
            ),
            (
                || Reply::Status(413, "", "s3cret+key too long".to_owned()),
                "answers 413: [key] too long",
            ),
        ];
        for (nonsense, part) in cases {
            let options = HttpOptions {
                most_failures: 1,
                ..impatient()
            };
            let (collected, received) =
                judged(
                    6,
                    options,
                    move |_, request| match request.body["comment"]["text"].as_str().unwrap().len()
                    {
                        2..=4 => nonsense(),
                        _ => by_length(request),
                    },
                );
            assert!(collected.result.is_ok(), "{collected:?}");
            assert_eq!(received.len(), 6, "asked again: {part}");
            for (index, judgement) in collected.judgements {
                match judgement {
                    Err(reason) => {
                        assert!((1..4).contains(&index));
                        assert!(reason.contains(part), "{reason}");
                    }
                    Ok(score) => assert_eq!(score, (index + 1) as f64 / 100.0),
                }
            }
        }
    }

    #[test]
    fn an_endpoint_that_is_down_stops_the_judge() {
        let url = nobody(PATH);
        let mut judge = judge(&url, impatient());
        let texts = texts(100);
        let collected = collect(&mut judge, &items(&texts));
        let error = collected.result.unwrap_err();
        let text = error.to_string();
        assert!(
            matches!(error, JudgeError::Down { failures: 3, .. }),
            "{text}"
        );
        assert!(
            text.starts_with(&format!("{url}: 3 judgements in a row failed")),
            "{text}"
        );
        assert!(
            text.contains("refused") && text.contains("\nhint: "),
            "{text}"
        );
        assert_eq!(collected.judgements.len(), 3);
        assert!(
            collected
                .judgements
                .iter()
                .all(|(_, judgement)| judgement.is_err())
        );
    }

    #[test]
    fn an_endpoint_that_goes_down_leaves_what_it_judged() {
        let options = HttpOptions {
            parallel: 1,
            ..impatient()
        };
        let (collected, received) = judged(50, options, |number, request| {
            if number < 10 {
                by_length(request)
            } else {
                Reply::Status(502, "", "bad gateway".to_owned())
            }
        });
        assert!(matches!(collected.result, Err(JudgeError::Down { .. })));
        assert_eq!(collected.judgements.len(), 13);
        assert_eq!(received.len(), 10 + 3 * 4);
        for (index, judgement) in collected.judgements {
            let expected = match index {
                0..10 => Ok((index + 1) as f64 / 100.0),
                _ => Err("answers 502: bad gateway".to_owned()),
            };
            assert_eq!(judgement, expected);
        }
    }

    #[test]
    fn failures_that_are_not_in_a_row_do_not_stop_it() {
        let options = HttpOptions {
            parallel: 1,
            attempts: 1,
            ..impatient()
        };
        let (collected, _) = judged(30, options, |number, request| {
            if number % 3 == 2 {
                by_length(request)
            } else {
                Reply::Status(500, "", String::new())
            }
        });
        assert!(collected.result.is_ok());
        let scored = collected.judgements.iter().filter(|(_, it)| it.is_ok());
        assert_eq!(scored.count(), 10);
        assert_eq!(collected.judgements.len(), 30);
    }

    #[test]
    fn an_endpoint_that_refuses_everything_is_asked_once() {
        let invalid =
            r#"{"error": {"message": "API key not valid. Please pass a valid API key."}}"#;
        let cases = [
            (401, "", "no", "check the key"),
            (403, "", "s3cret+key has no access", "check the key"),
            (400, "", invalid, "check the key"),
            (404, "", "nothing here", "check the address"),
            (405, "", "", "check the address"),
            (
                302,
                "Location: https://elsewhere.example/\r\n",
                "",
                "moved to https://elsewhere.example/",
            ),
        ];
        for (status, headers, text, part) in cases {
            let options = HttpOptions {
                parallel: 1,
                ..impatient()
            };
            let (collected, received) = judged(5, options, move |_, _| {
                Reply::Status(status, headers, text.to_owned())
            });
            let error = collected.result.unwrap_err();
            assert!(matches!(error, JudgeError::Unusable { .. }), "{error}");
            let error = error.to_string();
            assert!(error.contains(part), "{error}");
            assert!(error.contains(&format!("answers {status}")), "{error}");
            assert_eq!(received.len(), 1);
            assert_eq!(collected.judgements, []);
        }
    }

    #[test]
    fn the_rate_is_kept_by_all_together() {
        let options = HttpOptions {
            per_second: Some(20.0),
            ..impatient()
        };
        // The first is refused: second attempts count too.
        let (collected, mut received) = judged(6, options, |number, request| match number {
            0 => Reply::Status(500, "", String::new()),
            _ => by_length(request),
        });
        all_well(&collected, 6);
        received.sort_by_key(|request| request.at);
        assert_eq!(received.len(), 7);
        let whole = received[6].at - received[0].at;
        // Sent 6 times 50 ms apart; how fast a request then arrives is not ours to say.
        assert!(whole >= Duration::from_millis(150), "{whole:?}");
    }

    #[test]
    fn a_stop_ends_the_waiting() {
        let options = HttpOptions {
            first_wait: Duration::from_secs(60),
            longest_wait: Duration::from_secs(60),
            ..impatient()
        };
        let server = Server::start(|_, _| Reply::Status(500, "", String::new()));
        let mut judge = judge(&server.url(PATH), options);
        let texts = texts(3);
        let stop = AtomicBool::new(false);
        let begun = std::time::Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while server.received().is_empty() {
                    std::thread::sleep(Duration::from_millis(5));
                }
                stop.store(true, std::sync::atomic::Ordering::Relaxed);
            });
            let result = judge.judge(&items(&texts), &stop, &mut |_, _| Ok(()));
            assert!(matches!(result, Err(JudgeError::Interrupted)), "{result:?}");
        });
        assert!(begun.elapsed() < Duration::from_secs(20));
        // Set from the start, nothing is asked.
        let before = server.received().len();
        let result = judge.judge(&items(&texts), &stop, &mut |_, _| Ok(()));
        assert!(matches!(result, Err(JudgeError::Interrupted)));
        assert_eq!(server.received().len(), before);
    }

    #[test]
    fn a_receiver_that_refuses_ends_it() {
        let server = Server::start(|_, request| by_length(request));
        let mut judge = judge(&server.url(PATH), impatient());
        let texts = texts(50);
        let mut taken = 0;
        let result = judge.judge(&items(&texts), &AtomicBool::new(false), &mut |_, _| {
            taken += 1;
            if taken == 3 {
                Err("the disk is full".into())
            } else {
                Ok(())
            }
        });
        assert!(matches!(result, Err(JudgeError::Sink(_))));
        assert_eq!(taken, 3);
        assert!(server.received().len() < 20);
    }
}
