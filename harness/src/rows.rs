//! Answers, completions and verdicts as rows of the store: the statements, and reading what they give.

use llama_eval_model::{Answer, Completion, Finish};
use llama_eval_tasks::Verdict;
use rusqlite::{Row, params};

use crate::key::Key;

/// Puts an answer.
pub(crate) const INSERT: &str = "INSERT OR REPLACE INTO answers (key, session, log_probs, token_ids, greedy, margin, \
     context_tokens, dropped_examples, truncated_tokens, unanswered) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
/// Finds an answer.
pub(crate) const SELECT: &str = "SELECT log_probs, token_ids, greedy, margin, context_tokens, dropped_examples, \
     truncated_tokens, unanswered FROM answers WHERE key = ?";
/// Puts a completion.
pub(crate) const INSERT_COMPLETION: &str = "INSERT OR REPLACE INTO completions (key, session, text, token_ids, finish, margin, \
     prompt_tokens, dropped_examples, truncated_tokens) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)";
/// Finds a completion.
pub(crate) const SELECT_COMPLETION: &str = "SELECT text, token_ids, finish, margin, prompt_tokens, dropped_examples, \
     truncated_tokens FROM completions WHERE key = ?";
/// Puts a verdict.
pub(crate) const INSERT_VERDICT: &str =
    "INSERT OR REPLACE INTO verdicts (key, judge, value, note) VALUES (?, ?, ?, ?)";
/// Finds a verdict.
pub(crate) const SELECT_VERDICT: &str = "SELECT value, note FROM verdicts WHERE key = ?";

/// Writes one answer: a completion by the second statement, anything else by the first.
///
/// # Errors
/// When the database refuses.
pub(crate) fn write(
    insert: &mut rusqlite::CachedStatement<'_>,
    insert_completion: &mut rusqlite::CachedStatement<'_>,
    key: &Key,
    session: i64,
    answer: &Answer,
) -> rusqlite::Result<()> {
    let nothing: (&[u8], Option<f64>) = (&[], None);
    match answer {
        Answer::LogLikelihood {
            log_probs,
            token_ids,
            greedy,
            margin,
            context_tokens,
            dropped_examples,
            truncated_tokens,
        } => {
            let log_probs: Vec<u8> = log_probs
                .iter()
                .flat_map(|log_prob| log_prob.to_le_bytes())
                .collect();
            let token_ids: Vec<u8> = token_ids.iter().flat_map(|id| id.to_le_bytes()).collect();
            let counts =
                [context_tokens, dropped_examples, truncated_tokens].map(|&count| count as i64);
            let [context_tokens, dropped_examples, truncated_tokens] = counts;
            insert.execute(params![
                key.0,
                session,
                log_probs,
                token_ids,
                greedy,
                f64::from(*margin),
                context_tokens,
                dropped_examples,
                truncated_tokens,
                None::<&str>
            ])?;
        }
        Answer::Completion(completion) => {
            let token_ids: Vec<u8> = completion
                .token_ids
                .iter()
                .flat_map(|id| id.to_le_bytes())
                .collect();
            insert_completion.execute(params![
                key.0,
                session,
                completion.text,
                token_ids,
                completion.finish.name(),
                f64::from(completion.margin),
                completion.prompt_tokens as i64,
                completion.dropped_examples as i64,
                completion.truncated_tokens as i64,
            ])?;
        }
        Answer::Unanswered { reason } => {
            let (blob, margin) = nothing;
            insert.execute(params![
                key.0, session, blob, blob, false, margin, 0, 0, 0, reason
            ])?;
        }
        other => {
            let text = format!("this kind of answer cannot be stored: {other:?}");
            return Err(rusqlite::Error::ToSqlConversionFailure(text.into()));
        }
    }
    Ok(())
}

/// A row of [`SELECT`].
///
/// # Errors
/// When it cannot be one that this program wrote.
pub(crate) fn answer(row: &Row<'_>) -> Result<Answer, Box<dyn std::error::Error>> {
    if let Some(reason) = row.get::<_, Option<String>>(7)? {
        return Ok(Answer::Unanswered { reason });
    }
    let count = |column: usize| -> Result<usize, Box<dyn std::error::Error>> {
        Ok(usize::try_from(row.get::<_, i64>(column)?)?)
    };
    let log_probs = words(row.get_ref(0)?.as_blob()?)?
        .into_iter()
        .map(f32::from_le_bytes)
        .collect::<Vec<_>>();
    let token_ids = words(row.get_ref(1)?.as_blob()?)?
        .into_iter()
        .map(u32::from_le_bytes)
        .collect::<Vec<_>>();
    if log_probs.len() != token_ids.len() {
        return Err("an answer has not as many tokens as log-probabilities".into());
    }
    Ok(Answer::LogLikelihood {
        log_probs,
        token_ids,
        greedy: row.get(2)?,
        // SQLite keeps NaN as NULL.
        margin: row
            .get::<_, Option<f64>>(3)?
            .map_or(f32::NAN, |margin| margin as f32),
        context_tokens: count(4)?,
        dropped_examples: count(5)?,
        truncated_tokens: count(6)?,
    })
}

/// A row of [`SELECT_COMPLETION`].
///
/// # Errors
/// When it cannot be one that this program wrote.
pub(crate) fn completion(row: &Row<'_>) -> Result<Answer, Box<dyn std::error::Error>> {
    let count = |column: usize| -> Result<usize, Box<dyn std::error::Error>> {
        Ok(usize::try_from(row.get::<_, i64>(column)?)?)
    };
    let finish: String = row.get(2)?;
    let finish = Finish::ALL
        .into_iter()
        .find(|known| known.name() == finish)
        .ok_or_else(|| format!("a completion ended by `{finish}`, which is no known reason"))?;
    Ok(Answer::Completion(Completion {
        text: row.get(0)?,
        token_ids: words(row.get_ref(1)?.as_blob()?)?
            .into_iter()
            .map(u32::from_le_bytes)
            .collect(),
        finish,
        // SQLite keeps NaN as NULL.
        margin: row
            .get::<_, Option<f64>>(3)?
            .map_or(f32::NAN, |margin| margin as f32),
        prompt_tokens: count(4)?,
        dropped_examples: count(5)?,
        truncated_tokens: count(6)?,
    }))
}

/// A row of [`SELECT_VERDICT`].
///
/// # Errors
/// When it cannot be one that this program wrote.
pub(crate) fn verdict(row: &Row<'_>) -> Result<Verdict, Box<dyn std::error::Error>> {
    let note: String = row.get(1)?;
    Ok(match row.get::<_, Option<f64>>(0)? {
        Some(value) => Verdict::Known { value, note },
        None => Verdict::Missing { reason: note },
    })
}

fn words(bytes: &[u8]) -> Result<Vec<[u8; 4]>, &'static str> {
    match bytes.as_chunks() {
        (words, []) => Ok(words.to_vec()),
        _ => Err("an answer's length is no multiple of 4 bytes"),
    }
}
