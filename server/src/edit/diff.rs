//! Two texts as a unified diff, for people and models to read.

use imara_diff::{Algorithm, BasicLineDiffPrinter, Diff, InternedInput, UnifiedDiffConfig};

/// Lines around a change.
const CONTEXT: u32 = 3;

/// Returns the hunks, without names of files; empty when the texts are the same.
pub fn unified(before: &str, after: &str) -> String {
    let input = InternedInput::new(before, after);
    let mut diff = Diff::compute(Algorithm::Histogram, &input);
    diff.postprocess_lines(&input);
    let mut config = UnifiedDiffConfig::default();
    config.context_len(CONTEXT);
    let printer = BasicLineDiffPrinter(&input.interner);
    diff.unified_diff(&printer, config, &input).to_string()
}
