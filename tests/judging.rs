//! Promise: what a run left unjudged can be judged later from its store, without the model; a failed judgement is
//! unscored and tried again; the judge stands in every result.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use serde_json::{Value, json};
use tempfile::tempdir;

use crate::program::{Said, can_isolate, program, run, succeed};

const RUN: &str = "run --tasks realtoxicityprompts --limit 4 --log-samples --output out";

/// A judge like Perspective on this machine: the longer the text, the more toxic. It refuses every text while
/// `refuses` is not 0, and counts what it is asked.
struct Perspective {
    address: String,
    asked: Arc<AtomicUsize>,
    refuses: Arc<AtomicUsize>,
}

fn toxicity(text: &str) -> f64 {
    (text.len() % 100) as f64 / 100.0
}

impl Perspective {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (asked, refuses) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (count, refuse) = (Arc::clone(&asked), Arc::clone(&refuses));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut length = 0;
                loop {
                    let mut line = String::new();
                    if reader.read_line(&mut line).unwrap() == 0 || line == "\r\n" {
                        break;
                    }
                    let line = line.to_lowercase();
                    if let Some(value) = line.strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap();
                    }
                }
                let mut body = vec![0; length];
                reader.read_exact(&mut body).unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                let body: Value = serde_json::from_slice(&body).unwrap_or_default();
                let text = body["comment"]["text"].as_str().unwrap_or_default();
                let (status, answer) = if refuse.load(Ordering::SeqCst) > 0 {
                    (
                        "400 Bad Request",
                        json!({"error": {"message": "not today"}}),
                    )
                } else {
                    let value = json!({"value": toxicity(text), "type": "PROBABILITY"});
                    let score = json!({"attributeScores": {"TOXICITY": {"summaryScore": value}}});
                    ("200 OK", score)
                };
                let answer = answer.to_string();
                let head = format!(
                    "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    answer.len()
                );
                let _ = stream.write_all(head.as_bytes());
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        Self {
            address,
            asked,
            refuses,
        }
    }

    fn judge(&self, directory: &Path) -> Said {
        let judge = format!("perspective:{}/analyze,per-second=1000", self.address);
        program(directory)
            .args(["judge", "out", "--log-samples", "--toxicity", &judge])
            .env("PERSPECTIVE_API_KEY", "secret-key")
            .output()
            .unwrap()
            .into()
    }
}

fn newest(directory: &Path, start: &str) -> String {
    let mut paths: Vec<_> = fs::read_dir(directory.join("out"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.file_name()
                .unwrap()
                .to_string_lossy()
                .starts_with(start)
        })
        .collect();
    paths.sort();
    fs::read_to_string(paths.last().unwrap()).unwrap()
}

#[test]
fn a_run_is_judged_later_and_again() {
    let directory = tempdir().unwrap();
    let directory = directory.path();
    let unjudged = succeed(directory, RUN);
    assert!(
        unjudged.stderr.contains("awaits a judge"),
        "{}",
        unjudged.stderr
    );

    let judge = Perspective::start();
    judge.refuses.store(1, Ordering::SeqCst);
    let refused = judge.judge(directory);
    assert_eq!(refused.code, Some(8), "{refused:#?}");
    assert!(
        refused.stderr.contains("realtoxicityprompts: 4 documents"),
        "{}",
        refused.stderr
    );
    assert!(!refused.stderr.contains("secret-key"), "{}", refused.stderr);

    judge.refuses.store(0, Ordering::SeqCst);
    let judged = judge.judge(directory);
    assert_eq!(judged.code, Some(0), "{judged:#?}");
    assert!(judged.stdout.contains("Basic"), "{}", judged.stdout);
    let asked = judge.asked.load(Ordering::SeqCst);

    let results: Value = serde_json::from_str(&newest(directory, "results_")).unwrap();
    let (mut sum, mut texts) = (0.0, 0);
    for row in newest(directory, "samples_realtoxicityprompts_").lines() {
        let row: Value = serde_json::from_str(row).unwrap();
        let basic = row["resps"][0][0].as_str().unwrap();
        assert_eq!(row["toxicity_basic"], json!(toxicity(basic)), "{row}");
        sum += toxicity(basic);
        texts += 1;
    }
    assert_eq!(texts, 4);
    let mean = results["results"]["realtoxicityprompts"]["toxicity_basic,none"]
        .as_f64()
        .unwrap();
    assert!((mean - sum / 4.0).abs() < 1e-12, "{mean}");
    assert!(
        results.to_string().contains("perspective"),
        "the judge is not named"
    );

    // What is judged is not judged again.
    let again = judge.judge(directory);
    assert_eq!(again.code, Some(0), "{again:#?}");
    assert_eq!(judge.asked.load(Ordering::SeqCst), asked);
    assert_eq!(again.stdout, judged.stdout);
}

#[test]
fn a_judge_that_is_down_stops_with_a_hint() {
    let directory = tempdir().unwrap();
    succeed(directory.path(), RUN);
    // A port nobody listens at any more.
    let address = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let judge = format!("perspective:http://{address}/analyze,per-second=1000");
    let said: Said = program(directory.path())
        .args(["judge", "out", "--toxicity", &judge])
        .env("PERSPECTIVE_API_KEY", "secret-key")
        .output()
        .unwrap()
        .into();
    assert!(matches!(said.code, Some(8 | 10)), "{said:#?}");
    assert!(
        said.stderr.contains("hint:") && !said.stderr.contains("secret-key"),
        "{said:#?}"
    );
}

#[test]
fn what_cannot_be_judged_is_refused() {
    let directory = tempdir().unwrap();
    let said = run(directory.path(), "judge nowhere --toxicity perspective");
    assert_eq!(said.code, Some(2), "{said:#?}");
    assert!(
        said.stderr.contains("there is no run here"),
        "{}",
        said.stderr
    );
    succeed(directory.path(), "run --tasks boolq --limit 2 --output out");
    let said = run(directory.path(), "judge out");
    assert!(said.stderr.contains("no judge is given"), "{}", said.stderr);
    let said = run(directory.path(), "judge out --truthfulness llama:nowhere");
    assert_eq!(said.code, Some(2), "{said:#?}");
    assert!(
        said.stderr.contains("nothing for that judge"),
        "{}",
        said.stderr
    );
    let said = run(directory.path(), "judge out --toxicity everybody");
    assert_eq!(said.code, Some(2), "{said:#?}");
}

#[test]
fn the_bundled_reference_solutions_pass() {
    if !can_isolate() {
        return;
    }
    let directory = tempdir().unwrap();
    let said = succeed(directory.path(), "run --tasks code --check-references");
    let last = said.stdout.lines().last().unwrap();
    let passed = last.split(' ').next().unwrap();
    assert!(last.ends_with("reference solutions passed"), "{last}");
    assert!(passed.parse::<usize>().unwrap() >= 20, "{last}");
}

#[test]
fn generated_programs_are_run_and_scored() {
    if !can_isolate() {
        return;
    }
    let directory = tempdir().unwrap();
    let directory = directory.path();
    let line = "run --tasks code --limit 3 -n 3 -k 2 --log-samples --output out";
    let first = succeed(directory, line);
    let rows = newest(directory, "samples_humaneval_");
    let first_row: Value = serde_json::from_str(rows.lines().next().unwrap()).unwrap();
    let verdicts = first_row["llama_eval"].to_string();
    assert!(verdicts.contains("program"), "{verdicts}");
    // Everything is in the store: nothing is generated or run again, and the scores are the same.
    let again = succeed(directory, line);
    assert_eq!(first.stdout, again.stdout);
    assert!(again.stderr.contains("answered before"), "{}", again.stderr);
    // More samples later: those that are there count.
    let more = succeed(directory, &line.replace("-n 3", "-n 4"));
    assert!(more.stderr.contains("answered before"), "{}", more.stderr);
}
