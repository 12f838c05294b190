//! What the doctor found, for people.

use std::io::Write;

use indexer::Phase;

use super::{EngineReport, IndexReport, ModelReport, Problem, Report, Setting, TurnModelReport};
use crate::cli::style::{self, harmless, paint};
use crate::shown::printable;

pub(super) fn print(out: &mut impl Write, report: &Report) -> std::io::Result<()> {
    writeln!(
        out,
        "{}",
        paint(style::TITLE, format!("Pairwright {}", report.version))
    )?;
    writeln!(out, "\n{}", paint(style::TITLE, "Settings"))?;
    match &report.settings_file {
        Some(file) if file.exists() => writeln!(out, "  file        {}", file.display())?,
        Some(file) => writeln!(
            out,
            "  file        {} {}",
            file.display(),
            paint(style::FAINT, "(none yet; it is optional)")
        )?,
        None => writeln!(out, "  file        none")?,
    }
    for (name, path) in &report.directories {
        let path = path
            .as_ref()
            .map_or_else(|| "none".into(), |p| p.display().to_string());
        writeln!(out, "  {name:<11} {path}")?;
    }
    if report.settings.is_empty() {
        writeln!(out, "  all settings are at their defaults")?;
    }
    for Setting { key, value, origin } in &report.settings {
        let origin = paint(style::FAINT, format!("({})", printable(origin)));
        writeln!(out, "  {} = {value} {origin}", printable(key))?;
    }
    writeln!(out, "\n{}", paint(style::TITLE, "Model"))?;
    match &report.model {
        None => {
            let turns = [&report.chat, &report.agent, &report.edit];
            let is_alone = turns.iter().all(|model| model.is_none()) && report.embed.is_none();
            let end = match is_alone {
                true => ", and nothing leaves this machine",
                false => "",
            };
            writeln!(out, "  none; the embedded engine answers{end}")?;
        }
        Some(model) => print_model(out, model)?,
    }
    writeln!(out, "\n{}", paint(style::TITLE, "Chat"))?;
    match &report.chat {
        None => writeln!(out, "  no model; questions are answered by search alone")?,
        Some(model) => print_turn_model(out, model)?,
    }
    if let Some(model) = &report.agent {
        writeln!(out, "\n{}", paint(style::TITLE, "Tasks"))?;
        print_turn_model(out, model)?;
    }
    for model in &report.fallbacks {
        writeln!(out, "\n{}", paint(style::TITLE, "When that is out"))?;
        print_turn_model(out, model)?;
    }
    if let Some(model) = &report.edit {
        writeln!(out, "\n{}", paint(style::TITLE, "Next edit"))?;
        print_turn_model(out, model)?;
    }
    if let Some(model) = &report.embed {
        writeln!(out, "\n{}", paint(style::TITLE, "Embeddings"))?;
        writeln!(
            out,
            "  {} at {}; every indexed piece is sent there",
            model.model, model.place
        )?;
        if let (Some(ms), Some(numbers)) = (model.answer_ms, model.numbers) {
            writeln!(out, "  answered in {ms} ms with {numbers} numbers")?;
        }
    }
    if let Some(sandbox) = &report.sandbox {
        writeln!(out, "\n{}", paint(style::TITLE, "Sandboxes"))?;
        writeln!(out, "  commands of tasks run at {}", sandbox.place)?;
        if let Some(running) = sandbox.running {
            writeln!(out, "  it answers; {running} run now")?;
        }
    }
    if !report.mcp.is_empty() {
        writeln!(out, "\n{}", paint(style::TITLE, "MCP servers"))?;
    }
    for server in &report.mcp {
        let n = server.tools.len();
        writeln!(out, "  {}: {n} tools", server.name)?;
        for tool in &server.tools {
            writeln!(out, "    {}", printable(tool))?;
        }
    }
    writeln!(out, "\n{}", paint(style::TITLE, "Embedded engine"))?;
    match &report.engine {
        None => writeln!(out, "  switched off (`local.enabled`)")?,
        Some(engine) => print_engine(out, engine)?,
    }
    if let Some(index) = &report.index {
        writeln!(out, "\n{}", paint(style::TITLE, "Index"))?;
        print_index(out, index)?;
    }
    writeln!(out)?;
    if report.problems.is_empty() {
        return writeln!(out, "{}", paint(style::GOOD, "No problems found."));
    }
    let n = report.problems.len();
    let title = if n == 1 {
        "1 problem".into()
    } else {
        format!("{n} problems")
    };
    writeln!(out, "{}", paint(style::BAD, title))?;
    for Problem { message, hint } in &report.problems {
        writeln!(out, "  {} {}", paint(style::BAD, "✗"), harmless(message))?;
        if let Some(hint) = hint {
            writeln!(out, "    {}", harmless(hint))?;
        }
    }
    Ok(())
}

fn print_model(out: &mut impl Write, model: &ModelReport) -> std::io::Result<()> {
    let ms = |time: Option<f64>| time.map_or_else(|| "unknown".into(), |t| format!("{t} ms"));
    writeln!(out, "  endpoint    {}", model.place)?;
    writeln!(
        out,
        "  protocol    {}",
        model.protocol.as_deref().unwrap_or("no connection")
    )?;
    writeln!(
        out,
        "  asked by    {}; text after the cursor: {}",
        model.way, model.fill_in_the_middle
    )?;
    writeln!(
        out,
        "  latency     connect {}, first text {}, answer {}",
        ms(model.connect_ms),
        ms(model.first_text_ms),
        ms(model.answer_ms)
    )?;
    if let Some(models) = &model.models {
        let shown: Vec<String> = models.iter().take(8).map(|name| printable(name)).collect();
        let more = if models.len() > shown.len() {
            ", …"
        } else {
            ""
        };
        writeln!(out, "  it offers   {}{more}", shown.join(", "))?;
    }
    Ok(())
}

fn print_turn_model(out: &mut impl Write, model: &TurnModelReport) -> std::io::Result<()> {
    writeln!(out, "  endpoint    {}", model.place)?;
    let protocol = model.protocol.as_deref().unwrap_or("no connection");
    writeln!(out, "  protocol    {protocol}")?;
    writeln!(out, "  asked by    {}, model {:?}", model.way, model.model)?;
    if let Some(connect) = model.connect_ms {
        writeln!(out, "  latency     connect {connect} ms")?;
    }
    writeln!(out, "  window      {} tokens", model.context_tokens)
}

fn print_engine(out: &mut impl Write, engine: &EngineReport) -> std::io::Result<()> {
    let mib = |bytes: usize| bytes as f64 / f64::from(1 << 20);
    let state = if engine.is_still_learning {
        "still learning"
    } else {
        "learnt"
    };
    writeln!(
        out,
        "  {state}      {} files, {:.1} MB of source in {:.1} s",
        engine.files,
        engine.bytes as f64 / 1e6,
        engine.learnt_in_ms / 1e3
    )?;
    let capped = if engine.is_capped {
        let next = "raise `local.memoryMb`, or list what is not worth learning in .ignore";
        paint(style::WARN, format!(" (full: files were left out; {next})"))
    } else {
        String::new()
    };
    writeln!(
        out,
        "  memory      {:.0} of {:.0} MiB{capped}",
        mib(engine.memory_bytes),
        mib(engine.memory_cap_bytes)
    )?;
    if !engine.skipped.is_empty() {
        let skipped: Vec<String> = engine
            .skipped
            .iter()
            .map(|(reason, n)| format!("{n} {reason}"))
            .collect();
        writeln!(out, "  not learnt  {}", skipped.join(", "))?;
    }
    Ok(())
}

fn print_index(out: &mut impl Write, index: &IndexReport) -> std::io::Result<()> {
    let state = match index.state {
        Phase::Ready => "ready",
        Phase::Scanning | Phase::Indexing => "not done",
    };
    let (files, indexed) = (index.files, index.indexed);
    writeln!(out, "  {state:<11} {files} files known, {indexed} indexed")?;
    if index.pending > 0 {
        writeln!(out, "  waiting     {} files", index.pending)?;
    }
    if index.is_behind {
        writeln!(
            out,
            "  behind      not yet of the commit that is checked out"
        )?;
    }
    if index.is_follower {
        writeln!(out, "  shared      another process keeps it up to date")?;
    }
    for fault in &index.first_faults {
        writeln!(out, "  fault       {}", printable(fault))?;
    }
    let more = index.faults.saturating_sub(index.first_faults.len());
    if more > 0 {
        writeln!(out, "  fault       and {more} more")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_engine_has_a_next_step() {
        let engine = EngineReport {
            files: 1,
            bytes: 1,
            memory_bytes: 1 << 20,
            memory_cap_bytes: 1 << 20,
            is_capped: true,
            learnt_in_ms: 1.0,
            is_still_learning: false,
            skipped: std::collections::BTreeMap::new(),
        };
        let mut out = Vec::new();
        print_engine(&mut out, &engine).unwrap();
        let shown = String::from_utf8(out).unwrap();
        assert!(shown.contains("raise `local.memoryMb`"), "{shown}");
    }

    #[test]
    fn names_that_a_server_offers_are_shown_and_not_obeyed() {
        let model = ModelReport {
            place: "https://example.org".to_owned(),
            protocol: None,
            way: "asked".to_owned(),
            fill_in_the_middle: "works".to_owned(),
            connect_ms: None,
            first_text_ms: None,
            answer_ms: None,
            models: Some(vec!["a\x1b]52;c;eA==\x07b".to_owned()]),
        };
        let mut out = Vec::new();
        print_model(&mut out, &model).unwrap();
        let shown = String::from_utf8(out).unwrap();
        assert!(shown.contains("]52;c;eA=="), "{shown}");
        assert!(!shown.contains(['\x1b', '\x07']), "{shown:?}");
    }

    #[test]
    fn an_index_is_told_with_what_is_wrong_with_it() {
        let index = IndexReport {
            state: Phase::Indexing,
            files: 7,
            indexed: 4,
            pending: 3,
            is_behind: true,
            is_follower: true,
            faults: 9,
            first_faults: vec!["a\x1b.rs: unreadable".to_owned()],
        };
        let mut out = Vec::new();
        print_index(&mut out, &index).unwrap();
        let lines = [
            "  not done    7 files known, 4 indexed",
            "  waiting     3 files",
            "  behind      not yet of the commit that is checked out",
            "  shared      another process keeps it up to date",
            "  fault       a\u{fffd}.rs: unreadable",
            "  fault       and 8 more\n",
        ];
        assert_eq!(String::from_utf8(out).unwrap(), lines.join("\n"));
    }
}
