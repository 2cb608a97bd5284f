//! Asks a judge behind an address: with limits on everything, patience where it helps, and no
//! trust in what comes back.

use std::{
    error::Error,
    io::Read,
    net::IpAddr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use jiff::{Timestamp, fmt::rfc2822};
use reqwest::{
    StatusCode, Url,
    blocking::{Client, Response},
    header::{AUTHORIZATION, HeaderValue, LOCATION, RETRY_AFTER},
    redirect::Policy,
};
use serde_json::Value;

use super::{JudgeError, Receiver, shortened};

/// How often to look whether to stop while waiting.
const GLANCE: Duration = Duration::from_millis(50);

/// Limits of everything that has to do with an endpoint.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct HttpOptions {
    /// Until there is a connection.
    pub(crate) connect_timeout: Duration,
    /// Without a byte of an answer, and again for the rest of it.
    pub(crate) timeout: Duration,
    /// How often one question is asked before it is given up, 1 or more.
    pub(crate) attempts: u32,
    /// Before the second attempt; doubled before each further one.
    pub(crate) first_wait: Duration,
    /// Between attempts. An endpoint that asks for more (`Retry-After`) is not asked again.
    pub(crate) longest_wait: Duration,
    /// Questions in a row that were given up before the endpoint counts as down, 1 or more.
    pub(crate) most_failures: usize,
    /// Questions asked at the same time, 1 or more.
    pub(crate) parallel: usize,
    /// Attempts per second, if they are limited; above 0.
    pub(crate) per_second: Option<f64>,
    /// Longest answer in bytes.
    pub(crate) most_bytes: u64,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            timeout: Duration::from_secs(60),
            attempts: 5,
            first_wait: Duration::from_millis(500),
            longest_wait: Duration::from_secs(120),
            most_failures: 5,
            parallel: 4,
            per_second: None,
            most_bytes: 1 << 20,
        }
    }
}

/// Where the endpoint wants its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyPlace {
    /// `Authorization: Bearer KEY`.
    Bearer,
    /// `?key=KEY`.
    Query,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// This question has none; the endpoint is well.
    Question(String),
    /// The endpoint gave none, however often it was asked.
    Endpoint(String),
    /// It will give none to any question.
    Unusable { problem: String, hint: String },
    /// There was no time to wait for one.
    Stopped,
}

/// An address that takes JSON and gives JSON.
pub(super) struct Endpoint {
    client: Client,
    /// With the key, if that is its place: never shown.
    url: Url,
    /// Without key.
    shown: String,
    key: Option<String>,
    bearer: Option<HeaderValue>,
    options: HttpOptions,
    /// The earliest time of the next attempt.
    turn: Mutex<Instant>,
}

/// What came of one attempt.
enum Attempt {
    Answer(Value),
    /// Another attempt may help, after the time the endpoint asked for.
    Again(String, Option<Duration>),
    Failed(Failure),
}

impl Endpoint {
    /// An `http` or `https` address, and a key for it.
    pub(super) fn new(
        url: &str,
        key: Option<(&str, KeyPlace)>,
        options: HttpOptions,
    ) -> Result<Self, JudgeError> {
        let unusable = |problem: String, hint: &str| JudgeError::Unusable {
            // What cannot be parsed may hold a password anywhere.
            judge: "judge endpoint".to_owned(),
            problem,
            hint: hint.to_owned(),
        };
        let mut url = parse(url)
            .map_err(|problem| unusable(problem, "give an address such as `https://host/path`"))?;
        let shown = url.to_string();
        let mut bearer = None;
        if let Some((key, place)) = key {
            let usable = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_graphic());
            let header = HeaderValue::from_str(&format!("Bearer {key}"));
            let (true, Ok(mut header)) = (usable, header) else {
                return Err(unusable(
                    format!("the key for {shown} is empty or holds characters no key has"),
                    "check the environment variable that holds it",
                ));
            };
            match place {
                KeyPlace::Query => {
                    url.query_pairs_mut().append_pair("key", key);
                }
                KeyPlace::Bearer => {
                    header.set_sensitive(true);
                    bearer = Some(header);
                }
            }
        }
        let mut builder = Client::builder()
            .user_agent(concat!("llama-eval/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(options.connect_timeout)
            .timeout(options.timeout)
            // A redirect could carry the key to another host.
            .redirect(Policy::none());
        if is_loopback(&url) {
            // A proxy cannot reach this machine's own servers.
            builder = builder.no_proxy();
        }
        // Fails only where another was installed before, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = builder.build().map_err(|error| {
            unusable(
                format!("no client for {shown}: {}", explain(error)),
                "check this machine's certificates",
            )
        })?;
        Ok(Self {
            client,
            url,
            shown,
            key: key.map(|(key, _)| key.to_owned()),
            bearer,
            options,
            turn: Mutex::new(Instant::now()),
        })
    }

    /// The address without key.
    pub(super) fn shown(&self) -> &str {
        &self.shown
    }

    /// Asks about `questions` things through `ask`, several at a time, and hands each result to
    /// `each` as it comes.
    pub(super) fn ask_all(
        &self,
        questions: usize,
        ask: &(dyn Fn(usize, &Stop<'_>) -> Result<f64, Failure> + Sync),
        stop: &AtomicBool,
        each: &mut Receiver<'_>,
    ) -> Result<(), JudgeError> {
        let stop = Stop {
            asked: stop,
            halted: AtomicBool::new(false),
        };
        let next = AtomicUsize::new(0);
        let workers = self.options.parallel.clamp(1, questions.max(1));
        thread::scope(|scope| {
            let (sender, results) = mpsc::sync_channel(workers);
            for _ in 0..workers {
                let sender = sender.clone();
                let (stop, next) = (&stop, &next);
                scope.spawn(move || {
                    while !stop.is_set() {
                        let question = next.fetch_add(1, Ordering::Relaxed);
                        if question >= questions
                            || sender.send((question, ask(question, stop))).is_err()
                        {
                            break;
                        }
                    }
                });
            }
            drop(sender);
            let mut outcome = Ok(());
            let mut failures = 0;
            for (question, result) in results {
                let judgement = match result {
                    Ok(value) => {
                        failures = 0;
                        Ok(value)
                    }
                    Err(Failure::Question(reason)) => Err(reason),
                    // What still comes in after the end is kept only where it is a judgement.
                    Err(_) if outcome.is_err() => continue,
                    Err(Failure::Endpoint(reason)) => {
                        failures += 1;
                        if failures >= self.options.most_failures.max(1) {
                            outcome = Err(JudgeError::Down {
                                endpoint: self.shown.clone(),
                                failures,
                                last: reason.clone(),
                            });
                        }
                        Err(reason)
                    }
                    Err(Failure::Unusable { problem, hint }) => {
                        outcome = Err(JudgeError::Unusable {
                            judge: self.shown.clone(),
                            problem,
                            hint,
                        });
                        stop.halt();
                        continue;
                    }
                    Err(Failure::Stopped) => {
                        outcome = Err(JudgeError::Interrupted);
                        continue;
                    }
                };
                if matches!(outcome, Err(JudgeError::Sink(_))) {
                    continue;
                }
                if let Err(error) = each(question, judgement) {
                    outcome = Err(JudgeError::Sink(error));
                }
                if outcome.is_err() {
                    stop.halt();
                }
            }
            if outcome.is_ok() && next.load(Ordering::Relaxed) < questions {
                outcome = Err(JudgeError::Interrupted);
            }
            outcome
        })
    }

    /// Posts `body` until there is an answer, at most as often as allowed. `question` makes the
    /// waiting times of different questions differ, always in the same way.
    pub(super) fn post(
        &self,
        body: &Value,
        question: usize,
        stop: &Stop<'_>,
    ) -> Result<Value, Failure> {
        let attempts = self.options.attempts.max(1);
        let mut last = String::new();
        for attempt in 0..attempts {
            self.await_turn(stop)?;
            match self.attempt(body) {
                Attempt::Answer(answer) => return Ok(answer),
                Attempt::Failed(failure) => return Err(self.redacted(failure)),
                Attempt::Again(reason, asked) => {
                    last = self.redact(reason);
                    if let Some(asked) = asked {
                        if asked > self.options.longest_wait {
                            last = format!("{last}, and asks to wait {} s", asked.as_secs());
                            break;
                        }
                        // Others need not find out for themselves.
                        self.postpone(asked);
                    } else if attempt + 1 < attempts {
                        stop.sleep_until(Instant::now() + self.pause(question, attempt))?;
                    }
                }
            }
        }
        Err(Failure::Endpoint(last))
    }

    fn attempt(&self, body: &Value) -> Attempt {
        let mut request = self.client.post(self.url.clone()).json(body);
        if let Some(bearer) = &self.bearer {
            request = request.header(AUTHORIZATION, bearer.clone());
        }
        let response = match request.send() {
            Ok(response) => response,
            Err(error) => return Attempt::Again(explain(error), None),
        };
        let status = response.status();
        let asked = retry_after(&response);
        let location = response
            .headers()
            .get(LOCATION)
            .and_then(|value| value.to_str().ok())
            .map(shortened);
        let text = match self.read(response) {
            Ok(text) => text,
            Err(attempt) => return attempt,
        };
        if status.is_success() {
            return match serde_json::from_slice(&text) {
                Ok(answer) => Attempt::Answer(answer),
                Err(error) => Attempt::Failed(Failure::Question(format!(
                    "the answer is not JSON: {error}"
                ))),
            };
        }
        let said = said(&text);
        let problem = format!("answers {}{said}", status.as_u16());
        let unusable = |hint: &str| {
            Attempt::Failed(Failure::Unusable {
                problem: problem.clone(),
                hint: hint.to_owned(),
            })
        };
        match status {
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
                Attempt::Again(problem, asked)
            }
            status if status.is_server_error() => Attempt::Again(problem, asked),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                unusable("check the key, and that it may use this judge")
            }
            // Google says this of a wrong key.
            StatusCode::BAD_REQUEST if said.to_lowercase().contains("api key") => {
                unusable("check the key")
            }
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::GONE => {
                unusable("check the address, and the name of the model where there is one")
            }
            status if status.is_redirection() => Attempt::Failed(Failure::Unusable {
                problem: format!(
                    "answers {}: it has moved to {}",
                    status.as_u16(),
                    location.as_deref().unwrap_or("an unknown place")
                ),
                hint: "give the new address, if you trust it".to_owned(),
            }),
            _ => Attempt::Failed(Failure::Question(problem)),
        }
    }

    /// The body, of bounded length, in bounded time.
    fn read(&self, response: Response) -> Result<Vec<u8>, Attempt> {
        let most = self.options.most_bytes;
        let begun = Instant::now();
        let mut text = Vec::new();
        let mut reader = response.take(most.saturating_add(1));
        let mut chunk = [0; 8192];
        loop {
            let count = match reader.read(&mut chunk) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) => {
                    let reason = format!("the answer broke off: {}", causes(&error));
                    return Err(Attempt::Again(reason, None));
                }
            };
            text.extend_from_slice(chunk.get(..count).unwrap_or_default());
            if begun.elapsed() > self.options.timeout {
                let reason = "the answer comes too slowly".to_owned();
                return Err(Attempt::Again(reason, None));
            }
        }
        if text.len() as u64 > most {
            return Err(Attempt::Failed(Failure::Question(format!(
                "the answer is longer than {most} bytes"
            ))));
        }
        Ok(text)
    }

    /// Waits until the next attempt may be made, and takes that turn.
    fn await_turn(&self, stop: &Stop<'_>) -> Result<(), Failure> {
        loop {
            let until = {
                let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
                let now = Instant::now();
                if *turn <= now {
                    if let Some(rate) = self.options.per_second {
                        // An absurd rate is slow, not a panic.
                        *turn = now
                            + Duration::try_from_secs_f64(1.0 / rate)
                                .unwrap_or(self.options.longest_wait);
                    }
                    return stop.check();
                }
                *turn
            };
            stop.sleep_until(until)?;
        }
    }

    fn postpone(&self, wait: Duration) {
        let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        *turn = (*turn).max(Instant::now() + wait);
    }

    /// Exponential, with between half and all of it, so that questions do not come back together.
    fn pause(&self, question: usize, attempt: u32) -> Duration {
        let whole = self
            .options
            .first_wait
            .saturating_mul(2u32.saturating_pow(attempt))
            .min(self.options.longest_wait);
        let mixed = mix(question as u64 ^ (u64::from(attempt) << 48));
        whole.mul_f64(0.5 + (mixed >> 11) as f64 / (1u64 << 54) as f64)
    }

    fn redacted(&self, failure: Failure) -> Failure {
        match failure {
            Failure::Question(reason) => Failure::Question(self.redact(reason)),
            Failure::Endpoint(reason) => Failure::Endpoint(self.redact(reason)),
            Failure::Unusable { problem, hint } => Failure::Unusable {
                problem: self.redact(problem),
                hint,
            },
            Failure::Stopped => Failure::Stopped,
        }
    }

    /// Servers may repeat the key they were given.
    fn redact(&self, text: String) -> String {
        match &self.key {
            Some(key) => text.replace(key.as_str(), "[key]"),
            None => text,
        }
    }
}

/// Whether to go on: the user's wish, and whether the others have ended.
pub(super) struct Stop<'a> {
    asked: &'a AtomicBool,
    halted: AtomicBool,
}

impl Stop<'_> {
    fn is_set(&self) -> bool {
        self.asked.load(Ordering::Relaxed) || self.halted.load(Ordering::Relaxed)
    }

    fn halt(&self) {
        self.halted.store(true, Ordering::Relaxed);
    }

    fn check(&self) -> Result<(), Failure> {
        if self.is_set() {
            Err(Failure::Stopped)
        } else {
            Ok(())
        }
    }

    fn sleep_until(&self, until: Instant) -> Result<(), Failure> {
        loop {
            self.check()?;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            thread::sleep(left.min(GLANCE));
        }
    }
}

/// An address without user, password, query or fragment, all of which may hold secrets.
fn parse(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("is no address: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err("the address is neither `http` nor `https`".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("the address holds a user or a password".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("the address holds a `?` or a `#`".to_owned());
    }
    Ok(url)
}

fn is_loopback(url: &Url) -> bool {
    url.host_str().is_some_and(|host| {
        let address = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost"
            || address
                .parse::<IpAddr>()
                .is_ok_and(|address| address.is_loopback())
    })
}

/// `Retry-After` in seconds or as a date.
fn retry_after(response: &Response) -> Option<Duration> {
    wait_asked(
        response.headers().get(RETRY_AFTER)?.to_str().ok()?,
        SystemTime::now(),
    )
}

fn wait_asked(value: &str, now: SystemTime) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let until = rfc2822::DateTimeParser::new()
        .parse_timestamp(value.trim())
        .ok()?;
    let now = Timestamp::try_from(now).ok()?;
    Some(Duration::try_from(until.duration_since(now)).unwrap_or_default())
}

/// What the endpoint says is wrong, as APIs put it, or its text.
fn said(text: &[u8]) -> String {
    let value: Option<Value> = serde_json::from_slice(text).ok();
    let message = value.as_ref().and_then(|value| {
        let error = value.get("error").unwrap_or(value);
        error
            .get("message")
            .or_else(|| error.get("detail"))
            .unwrap_or(error)
            .as_str()
    });
    let text = String::from_utf8_lossy(text);
    match shortened(message.unwrap_or(&text)) {
        said if said.is_empty() => String::new(),
        said => format!(": {said}"),
    }
}

/// An error of the client without the address, which may hold the key.
fn explain(error: reqwest::Error) -> String {
    let timeout = error.is_timeout();
    let text = causes(&error.without_url());
    if timeout {
        format!("no answer in time: {text}")
    } else {
        text
    }
}

/// An error and what caused it, on one line.
fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    shortened(&text)
}

/// Steele, Lea and Flood's SplitMix64.
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    fn endpoint(options: HttpOptions) -> Endpoint {
        Endpoint::new("http://127.0.0.1:1/", None, options).unwrap()
    }

    #[test]
    fn addresses() {
        let cases = [
            ("https://example.org/v1", None),
            ("http://127.0.0.1:8000", None),
            ("http://[::1]:8000/v1", None),
            ("example.org", Some("no address")),
            ("", Some("no address")),
            ("ftp://example.org", Some("neither `http`")),
            ("file:///etc/passwd", Some("neither `http`")),
            ("data:text/plain,hello", Some("neither `http`")),
            (
                "https://user:secret@example.org",
                Some("a user or a password"),
            ),
            ("https://example.org/?key=secret", Some("a `?`")),
            ("https://example.org/#secret", Some("a `?` or a `#`")),
        ];
        for (text, expected) in cases {
            let error = Endpoint::new(text, None, HttpOptions::default())
                .err()
                .map(|error| error.to_string());
            match expected {
                None => assert_eq!(error, None, "{text}"),
                Some(part) => {
                    let error = error.unwrap();
                    assert!(
                        error.contains(part) && error.contains("\nhint: "),
                        "{error}"
                    );
                    assert!(!error.contains("secret"), "{error}");
                }
            }
        }
    }

    #[test]
    fn keys_that_are_none_are_refused_unseen() {
        for key in ["", "se cret", "secret\r\nHost: other", "sécret"] {
            for place in [KeyPlace::Bearer, KeyPlace::Query] {
                let result = Endpoint::new(
                    "https://example.org",
                    Some((key, place)),
                    HttpOptions::default(),
                );
                let error = result.err().unwrap().to_string();
                assert!(
                    error.contains("the key for https://example.org/"),
                    "{error}"
                );
                assert!(!error.contains("cret"), "{error}");
            }
        }
    }

    #[test]
    fn this_machine_is_not_behind_a_proxy() {
        let cases = [
            ("http://localhost:8000", true),
            ("http://127.0.0.1", true),
            ("http://127.9.9.9", true),
            ("http://[::1]:80", true),
            ("http://example.org", false),
            ("http://10.0.0.1", false),
            ("http://localhost.example.org", false),
        ];
        for (url, expected) in cases {
            assert_eq!(is_loopback(&Url::parse(url).unwrap()), expected, "{url}");
        }
    }

    #[test]
    fn what_an_endpoint_asks_to_wait() {
        // Sun, 06 Nov 1994 08:49:37 GMT, the example of RFC 9110.
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let cases = [
            ("0", Some(0)),
            (" 7 ", Some(7)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(0)),
            ("Sun, 06 Nov 1994 08:50:07 GMT", Some(30)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("-1", None),
            ("soon", None),
            ("", None),
            ("99999999999999999999999", None),
        ];
        for (value, expected) in cases {
            assert_eq!(
                wait_asked(value, now),
                expected.map(Duration::from_secs),
                "{value:?}"
            );
        }
    }

    #[test]
    fn pauses_grow_within_bounds_and_never_change() {
        let options = HttpOptions {
            first_wait: Duration::from_millis(100),
            longest_wait: Duration::from_secs(1),
            ..HttpOptions::default()
        };
        let (one, other) = (endpoint(options.clone()), endpoint(options));
        let mut different = std::collections::BTreeSet::new();
        for question in 0..50 {
            for attempt in [0, 1, 2, 3, 4, 31, 32, 1000] {
                let pause = one.pause(question, attempt);
                let whole = (100 * 2u64.saturating_pow(attempt)).min(1000);
                let whole = Duration::from_millis(whole);
                assert!(pause >= whole / 2 && pause <= whole, "{attempt}: {pause:?}");
                assert_eq!(pause, other.pause(question, attempt));
                different.insert(pause);
            }
        }
        assert!(different.len() > 300);
    }

    #[test]
    fn what_servers_say() {
        let cases: [(&[u8], &str); 7] = [
            (
                br#"{"error": {"code": 400, "message": "too\n  long"}}"#,
                ": too long",
            ),
            (br#"{"error": "no such model"}"#, ": no such model"),
            (br#"{"object": "error", "message": "bad"}"#, ": bad"),
            (br#"{"detail": "Not Found"}"#, ": Not Found"),
            (b"<html>", ": <html>"),
            (b"", ""),
            (b"\xff", ": \u{fffd}"),
        ];
        for (text, expected) in cases {
            assert_eq!(said(text), expected);
        }
        assert_eq!(said(&[b'a'; 1000]).len(), 2 + 200 + 3);
    }
}
