-- What run.sqlite holds. Opened by any SQLite program, also while a run goes on.

-- Single values: `settings` of the first session and `model` (JSON), `started` (ISO 8601).
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;

-- One row each time the program ran; `seconds` it spent asking the model so far.
CREATE TABLE sessions (
    id INTEGER PRIMARY KEY,
    started TEXT NOT NULL,
    program_version TEXT NOT NULL,
    settings TEXT NOT NULL,
    seconds REAL NOT NULL DEFAULT 0,
    unique_tokens INTEGER NOT NULL DEFAULT 0,
    answers INTEGER NOT NULL DEFAULT 0
) STRICT;

-- One row each log-likelihood, and one each request that could not be answered. `key` is a hash of model and request. `log_probs` and `token_ids` are
-- little-endian 32-bit floats and integers, one for each token of the continuation.
-- `unanswered` is the reason why there is no answer, and everything else is then empty.
CREATE TABLE answers (
    key BLOB PRIMARY KEY,
    session INTEGER NOT NULL,
    log_probs BLOB NOT NULL DEFAULT x'',
    token_ids BLOB NOT NULL DEFAULT x'',
    greedy INTEGER NOT NULL DEFAULT 0,
    margin REAL,
    context_tokens INTEGER NOT NULL DEFAULT 0,
    dropped_examples INTEGER NOT NULL DEFAULT 0,
    truncated_tokens INTEGER NOT NULL DEFAULT 0,
    unanswered TEXT
) STRICT, WITHOUT ROWID;

-- One row each completion. `token_ids` as above, of all generated tokens; `text` ends before the stop string.
CREATE TABLE completions (
    key BLOB PRIMARY KEY,
    session INTEGER NOT NULL,
    text TEXT NOT NULL,
    token_ids BLOB NOT NULL,
    finish TEXT NOT NULL,
    margin REAL,
    prompt_tokens INTEGER NOT NULL,
    dropped_examples INTEGER NOT NULL,
    truncated_tokens INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What the sandbox and judges said of completions. `key` is a hash of the judge's name and version and of what it
-- was asked. Without a `value` the judgement failed, and `note` says why.
CREATE TABLE verdicts (
    key BLOB PRIMARY KEY,
    judge TEXT NOT NULL,
    value REAL,
    note TEXT NOT NULL
) STRICT, WITHOUT ROWID;
