//! Means and their uncertainty, as lm-eval computes them (`lm_eval/api/metrics.py`).
//!
//! Every error is one over documents: how far the mean would move with other documents of the same
//! kind. Where a document's value is itself an estimate from sampled completions (pass@k, maj1@k), chance
//! in drawing them widens the spread between documents and so is part of the error, but sampling error
//! within a document is not estimated: with the documents held fixed, the mean would move by less.

/// Two-sided 95 % quantile of the standard normal distribution.
const NORMAL_QUANTILE: f64 = 1.959_963_984_540_054;

/// Arithmetic mean; `None` of nothing.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Standard error of the mean: sample standard deviation (n - 1) over √n, lm-eval's `mean_stderr`.
/// `None` of fewer than two values.
pub fn standard_error(values: &[f64]) -> Option<f64> {
    let mean = mean(values)?;
    let count = values.len() as f64;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (values.len() > 1).then(|| (squares / (count - 1.0)).sqrt() / count.sqrt())
}

/// Wilson's 95 % interval of a proportion; `None` without trials. Unlike mean ± error it stays
/// between 0 and 1, and has a width where all trials agree.
///
/// ```
/// let (low, high) = llama_eval_reports::statistics::wilson(0, 10).unwrap();
/// assert!(low == 0.0 && (high - 0.2775).abs() < 1e-4);
/// ```
pub fn wilson(successes: usize, trials: usize) -> Option<(f64, f64)> {
    if trials == 0 {
        return None;
    }
    let (count, square) = (trials as f64, NORMAL_QUANTILE.powi(2));
    let proportion = successes as f64 / count;
    let centre = proportion + square / (2.0 * count);
    let spread = NORMAL_QUANTILE
        * (proportion * (1.0 - proportion) / count + square / (4.0 * count * count)).sqrt();
    let scale = 1.0 + square / count;
    Some((
        ((centre - spread) / scale).max(0.0),
        ((centre + spread) / scale).min(1.0),
    ))
}

/// The values of one metric, summed up.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Summary {
    /// Number of values.
    pub documents: usize,
    /// Their mean, if there is any value.
    pub mean: Option<f64>,
    /// Standard error of the mean, from two values on.
    pub standard_error: Option<f64>,
    /// How many values are 1, if all are 0 or 1.
    pub successes: Option<usize>,
}

impl Summary {
    /// Sums up single values.
    pub fn of(values: &[f64]) -> Self {
        let binary = values.iter().all(|&value| value == 0.0 || value == 1.0);
        Self {
            documents: values.len(),
            mean: mean(values),
            standard_error: standard_error(values),
            successes: binary.then(|| values.iter().filter(|&&value| value == 1.0).count()),
        }
    }

    /// Sums up groups, weighted by size, with lm-eval's `pooled_sample_stderr`:
    /// √(Σ (nᵢ - 1) seᵢ² nᵢ / (Σ nᵢ - k) / Σ nᵢ). As there, no error where a group has none.
    pub fn pooled(groups: &[Self]) -> Self {
        let groups: Vec<(Self, f64, f64)> = groups
            .iter()
            .filter_map(|group| Some((*group, group.documents as f64, group.mean?)))
            .filter(|(group, ..)| group.documents > 0)
            .collect();
        let documents: usize = groups.iter().map(|(group, ..)| group.documents).sum();
        if documents == 0 {
            return Self::default();
        }
        let total = documents as f64;
        let squares: Option<f64> = groups
            .iter()
            .map(|(group, count, _)| Some((count - 1.0) * group.standard_error?.powi(2) * count))
            .sum();
        let freedom = documents - groups.len();
        Self {
            documents,
            mean: Some(
                groups
                    .iter()
                    .map(|(_, count, mean)| mean * count)
                    .sum::<f64>()
                    / total,
            ),
            standard_error: squares
                .filter(|_| freedom > 0)
                .map(|squares| (squares / freedom as f64 / total).sqrt()),
            successes: groups.iter().map(|(group, ..)| group.successes).sum(),
        }
    }

    /// Wilson's 95 % interval, where every value is 0 or 1.
    pub fn interval(&self) -> Option<(f64, f64)> {
        wilson(self.successes?, self.documents)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn nothing_has_no_mean_and_one_value_no_error() {
        assert_eq!(Summary::of(&[]).mean, None);
        assert_eq!(Summary::of(&[]).standard_error, None);
        assert_eq!(Summary::of(&[]).interval(), None);
        assert_eq!(Summary::of(&[1.0]).mean, Some(1.0));
        assert_eq!(Summary::of(&[1.0]).standard_error, None);
        assert_eq!(Summary::pooled(&[]), Summary::default());
    }

    #[test]
    fn pooling_follows_lm_eval() {
        // Expected: lm_eval.api.metrics.{aggregate_subtask_metrics, pooled_sample_stderr} on the same values.
        let groups = [
            &[1.0, 0.0, 1.0, 1.0][..],
            &[0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0],
            &[0.25, 0.5, 0.125],
        ];
        let pooled = Summary::pooled(&groups.map(Summary::of));
        assert_eq!(pooled.documents, 14);
        assert_eq!(pooled.successes, None);
        assert!((pooled.mean.unwrap() - POOLED_MEAN).abs() < 1e-15);
        assert!((pooled.standard_error.unwrap() - POOLED_ERROR).abs() < 1e-15);
    }

    const POOLED_MEAN: f64 = 0.419_642_857_142_857_15;
    const POOLED_ERROR: f64 = 0.120_913_409_374_151_46;

    #[test]
    fn a_group_without_error_leaves_the_pool_without_one() {
        let pooled = Summary::pooled(&[Summary::of(&[1.0]), Summary::of(&[0.0, 1.0])]);
        assert_eq!(pooled.mean, Some(2.0 / 3.0));
        assert_eq!(pooled.standard_error, None);
        assert_eq!(pooled.successes, Some(2));
    }

    #[test]
    fn wilson_follows_the_textbook() {
        // Expected: scipy.stats.binomtest(15, 40).proportion_ci(method="wilson").
        let (low, high) = wilson(15, 40).unwrap();
        assert!((low - WILSON.0).abs() < 1e-12 && (high - WILSON.1).abs() < 1e-12);
        assert_eq!(wilson(5, 5).unwrap().1, 1.0);
    }

    const WILSON: (f64, f64) = (0.242_229_791_672_332_72, 0.529_675_608_626_988_9);
}
