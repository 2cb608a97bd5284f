//! The truth of a run: every answer, durably, in `run.sqlite` of the output directory.
//!
//! Answers are committed after each batch of the model, and within long batches every
//! [`COMMIT_ANSWERS`] answers or [`COMMIT_AFTER`]; a commit is on disk when it returns. A process that
//! is killed loses at most what came after the last commit; a machine that loses power, no more.

use std::{
    collections::BTreeMap,
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use llama_eval_model::{Answer, Identity};
use llama_eval_tasks::Verdict;
use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, params};

use crate::{
    key::{Key, same_answers},
    rows::{
        INSERT, INSERT_COMPLETION, INSERT_VERDICT, SELECT, SELECT_COMPLETION, SELECT_VERDICT,
        answer, completion, verdict, write,
    },
    settings::{Settings, reason},
};

/// The database in an output directory.
pub(crate) const FILE: &str = "run.sqlite";
/// Locked while a process works in an output directory.
const LOCK: &str = "run.lock";
/// Says to other programs whose database this is: `LLEV`.
const APPLICATION_ID: i32 = 0x4C4C_4556;
/// Raised with every change of the tables.
const VERSION: i32 = 2;
const SCHEMA: &str = include_str!("schema.sql");
/// Answers in one transaction at most.
const COMMIT_ANSWERS: usize = 256;
/// Least time between two commits of batches.
const COMMIT_BATCH_AFTER: Duration = Duration::from_millis(50);
/// Oldest uncommitted answer when the next one comes.
const COMMIT_AFTER: Duration = Duration::from_millis(500);

const UPDATE_SESSION: &str =
    "UPDATE sessions SET seconds = ?, unique_tokens = ?, answers = answers + ? WHERE id = ?";

/// An open store. Everything put into it is committed at the latest when it is dropped.
#[derive(Debug)]
pub(crate) struct Store {
    connection: Connection,
    path: PathBuf,
    session: Option<Session>,
    pending: Vec<(Key, Answer)>,
    pending_verdicts: Vec<PendingVerdict>,
    pending_since: Option<Instant>,
    last_commit: Option<Instant>,
    /// Were tokens computed since?
    uncounted: bool,
    failed: bool,
    created: bool,
    // Freed after the connection, for fields are dropped in order.
    _lock: File,
}

/// A verdict that is not committed yet.
#[derive(Debug)]
struct PendingVerdict {
    key: Key,
    judge: String,
    verdict: Verdict,
}

/// This process's row in `sessions`.
#[derive(Debug)]
struct Session {
    id: i64,
    begun: Instant,
    unique_tokens: u64,
}

/// What all sessions of a run took together.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Totals {
    /// When the first began, ISO 8601.
    pub(crate) started: String,
    /// Seconds spent asking the model.
    pub(crate) seconds: f64,
    /// Unique tokens computed.
    pub(crate) unique_tokens: u64,
}

impl Store {
    /// Opens or makes the store of `directory`, which it makes too, and locks it against other processes.
    ///
    /// # Errors
    /// When the directory cannot be written or is in use, or its store is damaged, foreign or too new.
    pub(crate) fn open(directory: &Path) -> Result<Self, StoreError> {
        let lock = lock(directory)?;
        let path = directory.join(FILE);
        let created = !path.exists();
        let connection =
            Connection::open(&path).map_err(|error| StoreError::sqlite(&path, error))?;
        let store = Self {
            connection,
            path,
            session: None,
            pending: Vec::new(),
            pending_verdicts: Vec::new(),
            pending_since: None,
            last_commit: None,
            uncounted: false,
            failed: false,
            created,
            _lock: lock,
        };
        store.prepare()?;
        Ok(store)
    }

    fn prepare(&self) -> Result<(), StoreError> {
        let number = |name: &str| -> Result<i32, StoreError> {
            self.checked(
                self.connection
                    .pragma_query_value(None, name, |row| row.get(0)),
            )
        };
        let tables = self.checked(self.connection.query_row(
            "SELECT count(*) FROM sqlite_schema",
            [],
            |row| row.get::<_, i64>(0),
        ))?;
        match (tables, number("application_id")?, number("user_version")?) {
            (0, _, 0) => self.create()?,
            (_, APPLICATION_ID, VERSION) => self.check_pages()?,
            (_, APPLICATION_ID, 1) => {
                self.check_pages()?;
                self.add_tables_of_version_2()?;
            }
            (_, APPLICATION_ID, version) => {
                return Err(StoreError::Version {
                    path: self.path.clone(),
                    version,
                });
            }
            _ => {
                return Err(StoreError::Foreign {
                    path: self.path.clone(),
                });
            }
        }
        let pragmas = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;";
        self.checked(self.connection.execute_batch(pragmas))
    }

    fn create(&self) -> Result<(), StoreError> {
        let statements = format!(
            "BEGIN; PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION}; {SCHEMA} COMMIT;"
        );
        self.checked(self.connection.execute_batch(&statements))
    }

    /// Version 1 knew log-likelihoods alone; its tables are as they were.
    fn add_tables_of_version_2(&self) -> Result<(), StoreError> {
        let tables = SCHEMA.split_inclusive(';').filter(|table| {
            table.contains("CREATE TABLE completions") || table.contains("CREATE TABLE verdicts")
        });
        let statements = format!(
            "BEGIN; PRAGMA user_version = {VERSION}; {} COMMIT;",
            tables.collect::<String>()
        );
        self.checked(self.connection.execute_batch(&statements))
    }

    /// Damage is found now rather than after hours of computing.
    fn check_pages(&self) -> Result<(), StoreError> {
        let verdict: String = self.checked(self.connection.pragma_query_value(
            None,
            "quick_check",
            |row| row.get(0),
        ))?;
        if verdict == "ok" {
            return Ok(());
        }
        Err(StoreError::Damaged {
            path: self.path.clone(),
            problem: verdict.lines().collect::<Vec<_>>().join("; "),
        })
    }

    /// Refuses settings that mean something else than those the store was begun with.
    ///
    /// # Errors
    /// [`StoreError::Changed`] with both values.
    pub(crate) fn check_settings(&self, settings: &Settings) -> Result<(), StoreError> {
        let Some(before) = self.meta::<Settings>("settings")? else {
            return Ok(());
        };
        self.compare(before.meaning(), settings.meaning())
    }

    /// Begins a session, or refuses a model other than the one that answered so far.
    ///
    /// # Errors
    /// [`StoreError::Changed`] with both values.
    pub(crate) fn begin(
        &mut self,
        settings: &Settings,
        identity: &Identity,
        program_version: &str,
        now: &str,
    ) -> Result<(), StoreError> {
        self.check_settings(settings)?;
        if let Some(before) = self.meta::<Identity>("model")? {
            self.compare(same_answers(&before), same_answers(identity))?;
        }
        let settings = self.json(settings)?;
        let identity = self.json(identity)?;
        let first = "INSERT OR IGNORE INTO meta (name, value) VALUES ('settings', ?), ('model', ?), ('started', ?)";
        let session = "INSERT INTO sessions (started, program_version, settings) VALUES (?, ?, ?)";
        let begun = (|| {
            let transaction = self.connection.unchecked_transaction()?;
            transaction.execute(first, params![settings, identity, now])?;
            transaction.execute(session, params![now, program_version, settings])?;
            let id = transaction.last_insert_rowid();
            transaction.commit()?;
            Ok(id)
        })();
        let id = self.checked(begun)?;
        self.session = Some(Session {
            id,
            begun: Instant::now(),
            unique_tokens: 0,
        });
        Ok(())
    }

    /// Leaves no trace of a store that was made for a run that could not even begin.
    pub(crate) fn abandon(self) {
        if !self.created || self.session.is_some() {
            return;
        }
        let path = self.path.clone();
        drop(self);
        let directory = path.parent().unwrap_or(&path);
        // Whatever cannot be removed does no harm; a directory with anything else in it stays.
        let _ = fs::remove_file(&path);
        let _ = fs::remove_file(directory.join(LOCK));
        let _ = fs::remove_dir(directory);
    }

    /// The committed answer under `key`.
    ///
    /// # Errors
    /// When the store is damaged.
    pub(crate) fn get(&self, key: &Key) -> Result<Option<Answer>, StoreError> {
        match self.find(SELECT, key, answer)? {
            Some(answer @ Answer::LogLikelihood { .. }) => Ok(Some(answer)),
            other => Ok(self.find(SELECT_COMPLETION, key, completion)?.or(other)),
        }
    }

    /// The committed verdict under `key`.
    ///
    /// # Errors
    /// When the store is damaged.
    pub(crate) fn verdict(&self, key: &Key) -> Result<Option<Verdict>, StoreError> {
        self.find(SELECT_VERDICT, key, verdict)
    }

    /// Is there a committed verdict under `key` that did not fail?
    ///
    /// # Errors
    /// When the store is damaged.
    pub(crate) fn is_judged(&self, key: &Key) -> Result<bool, StoreError> {
        Ok(matches!(self.verdict(key)?, Some(Verdict::Known { .. })))
    }

    fn find<T>(
        &self,
        select: &str,
        key: &Key,
        read: impl Fn(&Row<'_>) -> Result<T, Box<dyn std::error::Error>>,
    ) -> Result<Option<T>, StoreError> {
        let mut statement = self.checked(self.connection.prepare_cached(select))?;
        let row = self.checked(
            statement
                .query_row(params![key.0], |row| Ok(read(row)))
                .optional(),
        )?;
        row.transpose().map_err(|error| StoreError::Damaged {
            path: self.path.clone(),
            problem: error.to_string(),
        })
    }

    /// Takes a verdict by `judge`; committed as answers are.
    ///
    /// # Errors
    /// As [`Store::put`].
    pub(crate) fn put_verdict(
        &mut self,
        key: Key,
        judge: &str,
        verdict: Verdict,
    ) -> Result<(), StoreError> {
        self.pending_verdicts.push(PendingVerdict {
            key,
            judge: judge.to_owned(),
            verdict,
        });
        self.commit_when_due()
    }

    /// Which judge is asked for each kind of check, by name and version; of the last run that had one.
    ///
    /// # Errors
    /// When the store is damaged.
    pub(crate) fn judges(&self) -> Result<BTreeMap<String, String>, StoreError> {
        Ok(self.meta("judges")?.unwrap_or_default())
    }

    /// Remembers `judges` beside those of other kinds.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn set_judges(
        &mut self,
        judges: &BTreeMap<String, String>,
    ) -> Result<(), StoreError> {
        let mut known = self.judges()?;
        known.extend(judges.clone());
        let known = self.json(&known)?;
        let insert = "INSERT OR REPLACE INTO meta (name, value) VALUES ('judges', ?)";
        self.checked(self.connection.execute(insert, params![known]))?;
        Ok(())
    }

    /// Settings of the last session and the model that answered, for work on a finished run; `None` before.
    ///
    /// # Errors
    /// When the store is damaged.
    pub(crate) fn origin(&self) -> Result<Option<(Settings, Identity)>, StoreError> {
        let select = "SELECT settings FROM sessions ORDER BY id DESC LIMIT 1";
        let text: Option<String> = self.checked(
            self.connection
                .query_row(select, [], |row| row.get(0))
                .optional(),
        )?;
        let settings = text
            .map(|text| self.parsed("settings", &text))
            .transpose()?;
        Ok(settings.zip(self.meta("model")?))
    }

    /// Takes an answer, and commits when enough have come.
    ///
    /// # Errors
    /// When it cannot be written; what was committed before stays.
    pub(crate) fn put(&mut self, key: Key, answer: Answer) -> Result<(), StoreError> {
        self.pending.push((key, answer));
        self.commit_when_due()
    }

    fn commit_when_due(&mut self) -> Result<(), StoreError> {
        let since = *self.pending_since.get_or_insert_with(Instant::now);
        let pending = self.pending.len() + self.pending_verdicts.len();
        if pending >= COMMIT_ANSWERS || since.elapsed() >= COMMIT_AFTER {
            self.commit()?;
        }
        Ok(())
    }

    /// Counts a batch, and commits what it answered.
    ///
    /// # Errors
    /// As [`Store::put`].
    pub(crate) fn computed(&mut self, unique_tokens: usize) -> Result<(), StoreError> {
        if let Some(session) = &mut self.session {
            session.unique_tokens += unique_tokens as u64;
        }
        // Steps of generating come many a second, most without an answer.
        self.uncounted = true;
        let nothing = self.pending.is_empty() && self.pending_verdicts.is_empty();
        let least = if nothing {
            COMMIT_AFTER
        } else {
            COMMIT_BATCH_AFTER
        };
        if self.last_commit.is_some_and(|last| last.elapsed() < least) {
            return Ok(());
        }
        self.commit()
    }

    /// Writes everything that came since the last commit, in one transaction.
    ///
    /// # Errors
    /// As [`Store::put`].
    pub(crate) fn commit(&mut self) -> Result<(), StoreError> {
        let Some(session) = &self.session else {
            return Ok(());
        };
        let written = (|| {
            let transaction = self.connection.unchecked_transaction()?;
            {
                let mut insert = transaction.prepare_cached(INSERT)?;
                let mut completion = transaction.prepare_cached(INSERT_COMPLETION)?;
                for (key, answer) in &self.pending {
                    write(&mut insert, &mut completion, key, session.id, answer)?;
                }
                let mut verdict = transaction.prepare_cached(INSERT_VERDICT)?;
                for pending in &self.pending_verdicts {
                    let (value, note) = match &pending.verdict {
                        Verdict::Known { value, note } => (Some(*value), note),
                        Verdict::Missing { reason } => (None, reason),
                    };
                    verdict.execute(params![pending.key.0, pending.judge, value, note])?;
                }
                let mut update = transaction.prepare_cached(UPDATE_SESSION)?;
                let seconds = session.begun.elapsed().as_secs_f64();
                let answers = self.pending.len() as i64;
                update.execute(params![
                    seconds,
                    session.unique_tokens as i64,
                    answers,
                    session.id
                ])?;
            }
            transaction.commit()
        })();
        self.failed = written.is_err();
        self.checked(written)?;
        self.pending.clear();
        self.pending_verdicts.clear();
        self.pending_since = None;
        self.uncounted = false;
        self.last_commit = Some(Instant::now());
        Ok(())
    }

    /// What all sessions took so far.
    ///
    /// # Errors
    /// When the store is damaged.
    pub(crate) fn totals(&self) -> Result<Totals, StoreError> {
        let select = "SELECT coalesce((SELECT value FROM meta WHERE name = 'started'), ''), \
             coalesce(sum(seconds), 0.0), coalesce(sum(unique_tokens), 0) FROM sessions";
        self.checked(self.connection.query_row(select, [], |row| {
            let unique_tokens: i64 = row.get(2)?;
            Ok(Totals {
                started: row.get(0)?,
                seconds: row.get(1)?,
                unique_tokens: unique_tokens.max(0) as u64,
            })
        }))
    }

    fn meta<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<Option<T>, StoreError> {
        let select = "SELECT value FROM meta WHERE name = ?";
        let text: Option<String> = self.checked(
            self.connection
                .query_row(select, [name], |row| row.get(0))
                .optional(),
        )?;
        text.map(|text| self.parsed(name, &text)).transpose()
    }

    fn parsed<T: serde::de::DeserializeOwned>(
        &self,
        name: &str,
        text: &str,
    ) -> Result<T, StoreError> {
        serde_json::from_str(text).map_err(|error| StoreError::Damaged {
            path: self.path.clone(),
            problem: format!("`{name}` is unreadable: {error}"),
        })
    }

    fn json<T: serde::Serialize>(&self, value: &T) -> Result<String, StoreError> {
        let failed = |error: serde_json::Error| StoreError::Io {
            path: self.path.clone(),
            error: error.into(),
        };
        serde_json::to_string(value).map_err(failed)
    }

    fn compare(
        &self,
        before: Vec<(&'static str, String)>,
        now: Vec<(&'static str, String)>,
    ) -> Result<(), StoreError> {
        let changes: Vec<Change> = before
            .into_iter()
            .zip(now)
            .filter(|(before, now)| before != now)
            .map(|((name, before), (_, now))| Change { name, before, now })
            .collect();
        if changes.is_empty() {
            return Ok(());
        }
        Err(StoreError::Changed {
            directory: self.path.parent().unwrap_or(&self.path).to_owned(),
            changes,
        })
    }

    fn checked<T>(&self, result: rusqlite::Result<T>) -> Result<T, StoreError> {
        result.map_err(|error| StoreError::sqlite(&self.path, error))
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // After a failure the same write would fail again, and the error is already on its way.
        let nothing = self.pending.is_empty() && self.pending_verdicts.is_empty();
        if !self.failed && (self.uncounted || !nothing) {
            let _ = self.commit();
        }
    }
}

fn lock(directory: &Path) -> Result<File, StoreError> {
    let path = directory.join(LOCK);
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error| StoreError::Io { path, error }
    };
    fs::create_dir_all(directory).map_err(failed(directory))?;
    let file = File::options()
        .create(true)
        .append(true)
        .open(&path)
        .map_err(failed(&path))?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked {
            directory: directory.to_owned(),
        }),
        // Some network file systems know no locks; SQLite's own still keep the database whole.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(file),
    }
}

/// A setting that means something else than before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// The flag, or what differs.
    pub(crate) name: &'static str,
    /// The store's value.
    pub(crate) before: String,
    /// The value given now.
    pub(crate) now: String,
}

fn list(changes: &[Change]) -> String {
    let line = |change: &Change| {
        format!(
            "\n  {}: was {}, is {}",
            change.name, change.before, change.now
        )
    };
    changes.iter().map(line).collect()
}

/// Why a store cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// The directory or a file in it cannot be made or opened.
    #[error("{}: {}\nhint: give a folder that can be written with `--output`", path.display(), reason(error))]
    Io {
        /// The directory or file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Another process works in it.
    #[error(
        "{}: another run is writing here\nhint: wait for it, or use another `--output`",
        directory.display()
    )]
    Locked {
        /// The output directory.
        directory: PathBuf,
    },
    /// A run with other settings lives there.
    #[error(
        "{}: this run was begun with other settings{}\nhint: give the earlier settings to go on, or another `--output` to start anew",
        directory.display(), list(changes)
    )]
    Changed {
        /// The output directory.
        directory: PathBuf,
        /// All that differs.
        changes: Vec<Change>,
    },
    /// A newer (or unknown) format.
    #[error(
        "{}: written by another version of llama-eval (format {version}, this one knows {VERSION})\nhint: use that version, or another `--output`",
        path.display()
    )]
    Version {
        /// The database.
        path: PathBuf,
        /// Its format.
        version: i32,
    },
    /// A database, but not one of ours.
    #[error("{}: a database of another program\nhint: use another `--output`", path.display())]
    Foreign {
        /// The database.
        path: PathBuf,
    },
    /// Not a database, or a damaged one.
    #[error(
        "{}: {problem}\nhint: it was left as it is; move it away, or use another `--output`, to start anew",
        path.display()
    )]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// No room, or a write that failed.
    #[error(
        "{}: {problem}\nhint: everything stored before is safe; free some space and run the same command to go on",
        path.display()
    )]
    Full {
        /// The database.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Anything else SQLite may say.
    #[error("{}: {error}\nhint: check that the file can be read and written, or use another `--output`", path.display())]
    Sqlite {
        /// The database.
        path: PathBuf,
        /// What it said.
        error: rusqlite::Error,
    },
}

impl StoreError {
    fn sqlite(path: &Path, error: rusqlite::Error) -> Self {
        let path = path.to_owned();
        let problem = error.to_string();
        match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase) => Self::Damaged {
                path,
                problem: "not a database".to_owned(),
            },
            Some(ErrorCode::DatabaseCorrupt) => Self::Damaged { path, problem },
            Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure) => Self::Full { path, problem },
            _ => Self::Sqlite { path, error },
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use proptest::prelude::*;
    use tempfile::{TempDir, tempdir};

    use super::*;
    use crate::{cli::Cli, cli::Command, scripted::identity};
    use clap::Parser;

    fn settings(flags: &str) -> Settings {
        let line = format!("llama-eval run {flags}");
        let Command::Run(arguments) = Cli::try_parse_from(line.split_whitespace())
            .unwrap()
            .command
        else {
            panic!()
        };
        Settings::resolve(&arguments).unwrap()
    }

    fn begun(directory: &Path) -> Store {
        let mut store = Store::open(directory).unwrap();
        store
            .begin(&settings(""), &identity(), "0", "2024-01-01T00:00:00Z")
            .unwrap();
        store
    }

    fn key(number: u64) -> Key {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&number.to_be_bytes());
        Key(key)
    }

    fn sample(number: u64) -> Answer {
        Answer::LogLikelihood {
            log_probs: vec![-0.1, -(number as f32)],
            token_ids: vec![7, number as u32],
            greedy: number.is_multiple_of(2),
            margin: 0.25,
            context_tokens: 12,
            dropped_examples: 1,
            truncated_tokens: 3,
        }
    }

    fn error(directory: &TempDir) -> StoreError {
        Store::open(directory.path()).unwrap_err()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn answers_come_back_bit_by_bit(
            tokens in prop::collection::vec((any::<u32>(), any::<u32>()), 0..6),
            greedy: bool,
            margin in prop::num::f32::ANY,
            counts: [u32; 3],
        ) {
            let directory = tempdir().unwrap();
            let (bits, token_ids): (Vec<u32>, Vec<u32>) = tokens.into_iter().unzip();
            let [context_tokens, dropped_examples, truncated_tokens] = counts.map(|count| count as usize);
            let log_probs: Vec<f32> = bits.iter().map(|&bits| f32::from_bits(bits)).collect();
            let answer = Answer::LogLikelihood { log_probs, token_ids, greedy, margin, context_tokens, dropped_examples, truncated_tokens };
            let mut store = begun(directory.path());
            store.put(key(1), answer.clone()).unwrap();
            drop(store);
            let found = Store::open(directory.path()).unwrap().get(&key(1)).unwrap().unwrap();
            let plain = |answer: &Answer| match answer {
                // SQLite has one NaN and one zero; a margin needs no more.
                Answer::LogLikelihood { log_probs, token_ids, greedy, margin, context_tokens, dropped_examples, truncated_tokens } => (
                    log_probs.iter().map(|log_prob| log_prob.to_bits()).collect::<Vec<_>>(), token_ids.clone(), *greedy,
                    if margin.is_nan() { None } else { Some(*margin) }, [*context_tokens, *dropped_examples, *truncated_tokens],
                ),
                _ => panic!("{answer:?}"),
            };
            prop_assert_eq!(plain(&found), plain(&answer));
        }
    }

    #[test]
    fn a_reason_comes_back_and_gives_way_to_an_answer() {
        let directory = tempdir().unwrap();
        let mut store = begun(directory.path());
        let unanswered = Answer::Unanswered {
            reason: "a logit is NaN".to_owned(),
        };
        store.put(key(1), unanswered.clone()).unwrap();
        store.commit().unwrap();
        assert_eq!(store.get(&key(1)).unwrap(), Some(unanswered));
        assert_eq!(store.get(&key(2)).unwrap(), None);
        store.put(key(1), sample(1)).unwrap();
        store.commit().unwrap();
        assert_eq!(store.get(&key(1)).unwrap(), Some(sample(1)));
    }

    #[test]
    fn a_killed_process_leaves_all_it_committed() {
        let directory = tempdir().unwrap();
        let left = tempdir().unwrap();
        let mut store = begun(directory.path());
        (0..10).for_each(|number| store.put(key(number), sample(number)).unwrap());
        store.computed(100).unwrap();
        store.put(key(10), sample(10)).unwrap();
        // The files as they are at this moment are what SIGKILL leaves.
        for file in [FILE, "run.sqlite-wal"] {
            fs::copy(directory.path().join(file), left.path().join(file)).unwrap();
        }
        let found = Store::open(left.path()).unwrap();
        (0..10)
            .for_each(|number| assert_eq!(found.get(&key(number)).unwrap(), Some(sample(number))));
        assert_eq!(found.get(&key(10)).unwrap(), None);
        assert_eq!(found.totals().unwrap().unique_tokens, 100);
    }

    #[test]
    fn many_answers_are_committed_without_a_batch_end() {
        let directory = tempdir().unwrap();
        let mut store = begun(directory.path());
        (0..COMMIT_ANSWERS as u64)
            .for_each(|number| store.put(key(number), sample(number)).unwrap());
        assert!(store.get(&key(0)).unwrap().is_some());
    }

    #[test]
    fn sessions_add_up() {
        let directory = tempdir().unwrap();
        for tokens in [100, 23] {
            let mut store = begun(directory.path());
            store.computed(tokens).unwrap();
        }
        let mut store = Store::open(directory.path()).unwrap();
        store
            .begin(&settings(""), &identity(), "0", "2025-01-01T00:00:00Z")
            .unwrap();
        let totals = store.totals().unwrap();
        assert_eq!(
            (totals.unique_tokens, totals.started.as_str()),
            (123, "2024-01-01T00:00:00Z")
        );
        assert!(totals.seconds > 0.0);
    }

    #[test]
    fn other_settings_are_refused_with_both_values() {
        let directory = tempdir().unwrap();
        drop(begun(directory.path()));
        let store = Store::open(directory.path()).unwrap();
        let refused = |flags: &str| {
            store
                .check_settings(&settings(flags))
                .map_err(|error| error.to_string())
        };
        let text = refused("--protocol lm-eval --seed 7 --num-fewshot 5").unwrap_err();
        for line in [
            "--protocol: was paper, is lm-eval",
            "--seed: was 1234, is 7",
            "--num-fewshot: was each task's own, is 5",
        ] {
            assert!(text.contains(line), "{text}");
        }
        assert!(
            refused("--data somewhere")
                .unwrap_err()
                .contains("--data: was the bundled samples")
        );
        for harmless in [
            "--limit 5",
            "--batch-rows 7",
            "--memory 2",
            "--log-samples",
            "--output elsewhere",
        ] {
            refused(harmless).unwrap();
        }
    }

    #[test]
    fn another_model_is_refused_with_both_values() {
        let directory = tempdir().unwrap();
        drop(begun(directory.path()));
        let mut store = Store::open(directory.path()).unwrap();
        let mut other = identity();
        (other.name, other.dtype) = ("renamed".to_owned(), "bf16".to_owned());
        let error = store
            .begin(&settings(""), &other, "0", "")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("--dtype: was f32, is bf16") && !error.contains("renamed"),
            "{error}"
        );
        other.dtype = "f32".to_owned();
        store.begin(&settings(""), &other, "0", "").unwrap();
    }

    #[test]
    fn a_full_disk_loses_nothing_that_was_stored() {
        let directory = tempdir().unwrap();
        let mut store = begun(directory.path());
        store
            .connection
            .execute_batch("PRAGMA max_page_count = 20")
            .unwrap();
        let mut stored = 0;
        let error = loop {
            store.put(key(stored), sample(stored)).unwrap();
            match store.commit() {
                Ok(()) => stored += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(error, StoreError::Full { .. }), "{error}");
        assert!(stored > 20, "{stored}");
        drop(store);
        let store = Store::open(directory.path()).unwrap();
        (0..stored)
            .for_each(|number| assert_eq!(store.get(&key(number)).unwrap(), Some(sample(number))));
        assert_eq!(store.get(&key(stored)).unwrap(), None);
    }

    #[test]
    fn two_processes_do_not_share_a_directory() {
        let directory = tempdir().unwrap();
        let first = Store::open(directory.path()).unwrap();
        assert!(matches!(error(&directory), StoreError::Locked { .. }));
        drop(first);
        Store::open(directory.path()).unwrap();
    }

    #[test]
    fn files_that_are_no_store_are_named_and_left_alone() {
        let directory = tempdir().unwrap();
        let path = directory.path().join(FILE);
        let picture = [b"\x89PNG\r\n\x1a\n".as_slice(), &[7; 5000]].concat();
        fs::write(&path, &picture).unwrap();
        let refused = error(&directory);
        assert!(matches!(refused, StoreError::Damaged { .. }), "{refused}");
        assert_eq!(fs::read(&path).unwrap(), picture);

        fs::remove_file(&path).unwrap();
        Connection::open(&path)
            .unwrap()
            .execute_batch("CREATE TABLE birds (name TEXT)")
            .unwrap();
        let refused = error(&directory);
        assert!(matches!(refused, StoreError::Foreign { .. }), "{refused}");
    }

    #[test]
    fn a_newer_format_is_refused() {
        let directory = tempdir().unwrap();
        drop(begun(directory.path()));
        Connection::open(directory.path().join(FILE))
            .unwrap()
            .execute_batch("PRAGMA user_version = 99")
            .unwrap();
        let refused = error(&directory);
        assert!(
            matches!(refused, StoreError::Version { version: 99, .. }),
            "{refused}"
        );
    }

    #[test]
    fn damage_is_found_before_anything_is_asked() {
        let directory = tempdir().unwrap();
        let mut store = begun(directory.path());
        (0..500).for_each(|number| store.put(key(number), sample(number)).unwrap());
        drop(store);
        let path = directory.path().join(FILE);
        let whole = fs::read(&path).unwrap();
        let mut damaged = whole.clone();
        let middle = damaged.len() / 2;
        damaged[middle..middle + 8192].fill(0x55);
        for bytes in [&damaged, &whole[..whole.len() / 2].to_vec()] {
            fs::write(&path, bytes).unwrap();
            let refused = error(&directory);
            assert!(matches!(refused, StoreError::Damaged { .. }), "{refused}");
            assert_eq!(&fs::read(&path).unwrap(), bytes);
        }
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let directory = tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        let refused = Store::open(&file.join("out")).unwrap_err();
        assert!(matches!(refused, StoreError::Io { .. }), "{refused}");
        assert!(
            refused
                .to_string()
                .starts_with(&file.join("out").display().to_string()),
            "{refused}"
        );
    }

    #[test]
    fn a_run_that_never_began_leaves_nothing() {
        let directory = tempdir().unwrap();
        let output = directory.path().join("out");
        Store::open(&output).unwrap().abandon();
        assert!(!output.exists());
        drop(begun(&output));
        Store::open(&output).unwrap().abandon();
        assert!(output.join(FILE).exists());
    }
}
