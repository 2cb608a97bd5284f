//! Table 8: programs that pass their tests.

use super::{
    CODE, Own, Report,
    at_k::{AtK, at_k},
    notes::Source,
    numbered,
};
use crate::{published, table::Table};

const PASS: &str = "pass@";
/// What its verdicts stand under in [`crate::Run::judges`].
const CHECK: &str = "program";

impl<'a> Report<'a> {
    /// Table 8: pass@1, and pass@k with the k of each benchmark.
    pub(super) fn code(self) -> Option<Table> {
        let published = published::table(CODE)?;
        let (mut own, mut sources, mut estimates) = (Vec::new(), Vec::new(), Vec::new());
        for column in &published.columns {
            let (value, source) = self.pass(column).unzip();
            sources.extend(source);
            estimates.push((column.clone(), paper_k(column)?, value));
            own.push(value);
        }
        let headings: Vec<String> = published
            .columns
            .iter()
            .map(|column| column.replacen('@', "\n@", 1))
            .collect();
        let mut table = self.model_rows(numbered(published), &headings, Some(published), &own)?;
        table.notes.extend(self.notes(Some(published), &sources));
        table.notes.extend(self.k_notes(&estimates));
        table.notes.push(
            "The paper does not say how many samples (n) its pass@k is estimated from.".to_owned(),
        );
        table.notes.push(match self.run.judges.get(CHECK) {
            Some(sandbox) => format!("Programs were run by {sandbox}."),
            None => "No program was run: nothing passes or fails without a sandbox.".to_owned(),
        });
        Some(table)
    }

    /// What stands in `HumanEval@1`: the headline; in `HumanEval@100`: the metric with that k, or else
    /// with the largest.
    fn pass(self, column: &str) -> Option<(Own, Source<'a>)> {
        let (benchmark, paper_k) = (column.split('@').next()?, paper_k(column)?);
        let task = self.task(|task| {
            task.card.published.as_ref().is_some_and(|(table, name)| {
                table == CODE && name.split('@').next() == Some(benchmark)
            })
        })?;
        let estimate = if paper_k == 1 {
            // Under lm-eval's protocol it is called otherwise, and of greedy completions.
            AtK {
                metric: &task.card.headline,
                k: 1,
            }
        } else {
            at_k(task, PASS)
                .filter(|estimate| estimate.k > 1 && self.is_measured(task, estimate.metric))
                .max_by_key(|estimate| (estimate.k == paper_k, estimate.k))?
        };
        let own = self.value(task, estimate.metric).at(estimate.k, paper_k);
        let source = Source::new(column, vec![task]);
        Some((own, source.entitled(benchmark).by(Some(estimate.metric))))
    }
}

/// 100 for `HumanEval@100`.
fn paper_k(column: &str) -> Option<usize> {
    column.split('@').nth(1)?.parse().ok()
}
