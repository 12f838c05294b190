//! Applying, rejecting, rolling back and typing, in any order, against a list of tagged lines.

use proptest::prelude::*;

use super::*;
use crate::edit::follow::LineEdit;

#[derive(Debug, Clone)]
enum Step {
    /// The author changes our line number so-and-so.
    Propose(usize),
    Accept(usize),
    Reject(usize),
    Rollback(usize),
    /// The user types a line of their own below line number so-and-so, or removes one of theirs.
    Type(usize),
    Remove(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let n = 0_usize..12;
    let step = prop_oneof![
        n.clone().prop_map(Step::Propose),
        n.clone().prop_map(Step::Accept),
        n.clone().prop_map(Step::Reject),
        n.clone().prop_map(Step::Rollback),
        n.clone().prop_map(Step::Type),
        n.prop_map(Step::Remove),
    ];
    prop::collection::vec(step, 1..20)
}

/// Lines of the file: ours by number with what they read, or the user's.
#[derive(Debug, Clone, PartialEq)]
enum Line {
    Ours(usize, u32),
    Users(u32),
}

fn text(lines: &[Line]) -> String {
    let show = |line: &Line| match line {
        Line::Ours(n, 0) => format!("line {n}\n"),
        Line::Ours(n, version) => format!("line {n} v{version}\n"),
        // All the same, so that comparing texts may pair the wrong ones.
        Line::Users(_) => "user\n".to_owned(),
    };
    lines.iter().map(show).collect()
}

struct Run {
    folder: Folder,
    workspace: Workspace,
    editor: Editor,
    lines: Vec<Line>,
    proposals: Vec<(String, usize, u32, u32)>,
    tokens: Vec<(Token, usize, u32, u32)>,
    n_made: u32,
}

fn path() -> RepoPath {
    RepoPath::parse("a.txt").unwrap()
}

impl Run {
    fn new() -> Self {
        let lines: Vec<Line> = (0..6).map(|n| Line::Ours(n, 0)).collect();
        let folder = folder(&[("a.txt", &text(&lines))]);
        let editor = Editor::with(Manner::Honest, &[("a.txt", &text(&lines))]);
        Self {
            workspace: folder.open(),
            folder,
            editor,
            lines,
            proposals: Vec::new(),
            tokens: Vec::new(),
            n_made: 0,
        }
    }

    fn version(&self, n: usize) -> u32 {
        let ours = self.lines.iter().find_map(|l| match l {
            Line::Ours(m, version) if *m == n => Some(*version),
            _ => None,
        });
        ours.unwrap()
    }

    fn set(&mut self, n: usize, to: u32) {
        for line in &mut self.lines {
            if let Line::Ours(m, version) = line
                && *m == n
            {
                *version = to;
            }
        }
    }

    fn type_(&mut self, at: usize, new: Option<Line>) {
        let edit = match &new {
            Some(_) => LineEdit::of(at, true, "", "user\n"),
            None => LineEdit::of(at, true, "user\n", ""),
        };
        match new {
            Some(line) => self.lines.insert(at, line),
            None => drop(self.lines.remove(at)),
        }
        self.editor.set(&path(), &text(&self.lines));
        self.editor.edited(edit);
    }

    fn take(&mut self, step: &Step) {
        let pick = |n: usize, len: usize| (len > 0).then(|| n % len);
        match step {
            Step::Propose(n) => {
                let n = n % 6;
                self.n_made += 1;
                let (from, to) = (self.version(n), self.n_made);
                let show = |version| text(&[Line::Ours(n, version)]);
                let answer = block("a.txt", &show(from), &show(to));
                let proposal = propose(&self.workspace, &self.editor, &answer);
                self.editor.follow("a.txt");
                self.proposals.push((proposal.id, n, from, to));
            }
            Step::Accept(i) => {
                let Some(i) = pick(*i, self.proposals.len()) else {
                    return;
                };
                let (id, n, from, to) = self.proposals[i].clone();
                let is_pending = self.is_pending(&id);
                let done = self
                    .workspace
                    .accept(&self.editor, &Choice::Proposal(id), None);
                match (is_pending, self.version(n)) {
                    (false, _) => assert_eq!(done.unwrap().rollback_token, None),
                    (true, now) if now == from => {
                        let token = done.unwrap().rollback_token.unwrap();
                        self.set(n, to);
                        self.tokens.push((token, n, from, to));
                    }
                    (true, _) => assert!(matches!(done, Err(EditError::Conflicts(_)))),
                }
            }
            Step::Reject(i) => {
                let Some(i) = pick(*i, self.proposals.len()) else {
                    return;
                };
                let id = self.proposals[i].0.clone();
                // Undecided hunks only: no byte changes.
                let done = self
                    .workspace
                    .reject(&self.editor, &Choice::Proposal(id), None);
                assert_eq!(done.unwrap().rollback_token, None);
            }
            Step::Rollback(i) => {
                let Some(i) = pick(*i, self.tokens.len()) else {
                    return;
                };
                let token = self.tokens[i].0.clone();
                // The last of those that took it back and did it again by turns.
                let (mut last, mut was_done) = (token.clone(), false);
                let entries = self.workspace.history(100).unwrap();
                let by = |of: &Token| entries.iter().find(|e| e.token == *of)?.undone_by.clone();
                while let Some(by) = by(&last) {
                    (last, was_done) = (by, !was_done);
                }
                let of_last = self.tokens.iter().find(|(token, ..)| *token == last);
                let (_, n, from, to) = of_last.unwrap().clone();
                let done =
                    self.workspace
                        .rollback(&self.editor, token.as_str(), Mode::AllOrNothing, None);
                match self.version(n) {
                    _ if was_done => drop(done.unwrap()),
                    now if now == to => {
                        let redo = done.unwrap().rollback_token.unwrap();
                        self.set(n, from);
                        self.tokens.push((redo, n, to, from));
                    }
                    // Somebody brought it back by another token.
                    now if now == from => {
                        if let Ok(done) = done {
                            self.tokens
                                .push((done.rollback_token.unwrap(), n, from, from));
                        }
                    }
                    _ => assert!(matches!(done, Err(EditError::Conflicts(_)))),
                }
            }
            Step::Type(at) => {
                self.n_made += 1;
                let at = at % (self.lines.len() + 1);
                self.type_(at, Some(Line::Users(self.n_made)));
            }
            Step::Remove(i) => {
                let users: Vec<usize> = (0..self.lines.len())
                    .filter(|&at| matches!(self.lines[at], Line::Users(_)))
                    .collect();
                if let Some(i) = pick(*i, users.len()) {
                    self.type_(users[i], None);
                }
            }
        }
        assert_eq!(
            self.editor.text("a.txt"),
            text(&self.lines),
            "after {step:?}"
        );
    }

    fn is_pending(&self, id: &str) -> bool {
        let proposals = self.workspace.list();
        proposals.iter().any(|p| p.id == id && p.is_open())
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("PAIRWRIGHT_INTERLEAVINGS").ok().and_then(|n| n.parse().ok()).unwrap_or(1000),
        ..ProptestConfig::default()
    })]
    #[test]
    fn nothing_but_our_own_lines_ever_changes(steps in steps()) {
        let mut run = Run::new();
        for step in &steps {
            run.take(step);
        }
        // The disk was never touched: the file is open.
        let untouched: Vec<Line> = (0..6).map(|n| Line::Ours(n, 0)).collect();
        prop_assert_eq!(run.folder.read("a.txt"), text(&untouched));
    }
}

/// Joined with its neighbours into one change, the hunk's line would be taken for the user's.
#[test]
fn lines_typed_and_removed_beside_a_line_are_not_taken_for_it() {
    let mut run = Run::new();
    for step in [
        Step::Type(0),
        Step::Type(3),
        Step::Propose(1),
        Step::Propose(1),
        Step::Accept(1),
        Step::Remove(0),
        Step::Remove(0),
        Step::Type(1),
        Step::Rollback(0),
        Step::Accept(0),
    ] {
        run.take(&step);
    }
    assert_eq!(
        run.editor.text("a.txt"),
        "line 0\nuser\nline 1 v3\nline 2\nline 3\nline 4\nline 5\n"
    );
}
