//! Files that an editor spells otherwise than the disk does.

use super::*;

/// A file on the disk, as an editor shows it, and a line of it with what it becomes, on the disk
/// and in the editor.
struct Case {
    name: &'static str,
    disk: Vec<u8>,
    shown: &'static str,
    change: (&'static str, &'static str),
    disk_after: Vec<u8>,
    shown_after: &'static str,
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

fn cases() -> Vec<Case> {
    vec![
        Case {
            name: "a mark, and CRLF in both",
            disk: b"\xEF\xBB\xBFa\r\nb\r\n".to_vec(),
            shown: "a\r\nb\r\n",
            change: ("b", "c"),
            disk_after: b"\xEF\xBB\xBFa\r\nc\r\n".to_vec(),
            shown_after: "a\r\nc\r\n",
        },
        Case {
            name: "CRLF in an editor of LF",
            disk: b"a\r\nb\r\n\r\nd".to_vec(),
            shown: "a\nb\n\nd",
            change: ("b", "c"),
            disk_after: b"a\r\nc\r\n\r\nd".to_vec(),
            shown_after: "a\nc\n\nd",
        },
        Case {
            name: "both line ends in an editor of LF",
            disk: b"a\nb\nc\r\nd\n".to_vec(),
            shown: "a\nb\nc\nd\n",
            change: ("b", "x"),
            disk_after: b"a\nx\nc\r\nd\n".to_vec(),
            shown_after: "a\nx\nc\nd\n",
        },
        Case {
            name: "UTF-16",
            disk: utf16("\u{feff}a\r\nb\r\nö\r\n"),
            shown: "a\nb\nö\n",
            change: ("b", "é"),
            disk_after: utf16("\u{feff}a\r\né\r\nö\r\n"),
            shown_after: "a\né\nö\n",
        },
        Case {
            name: "Latin-1",
            disk: b"caf\xE9\nb\nd\n".to_vec(),
            shown: "café\nb\nd\n",
            change: ("b", "très"),
            disk_after: b"caf\xE9\ntr\xE8s\nd\n".to_vec(),
            shown_after: "café\ntrès\nd\n",
        },
        Case {
            name: "Latin-1 that loses its only letter beyond ASCII",
            disk: b"a\ncaf\xE9\nd\n".to_vec(),
            shown: "a\ncafé\nd\n",
            change: ("café", "tea"),
            disk_after: b"a\ntea\nd\n".to_vec(),
            shown_after: "a\ntea\nd\n",
        },
    ]
}

impl Case {
    fn folder(&self) -> (Folder, Workspace, Editor) {
        let folder = folder(&[]);
        fs::write(folder.root.join("a.txt"), &self.disk).unwrap();
        let workspace = folder.open();
        let editor = Editor::with(Manner::Honest, &[("a.txt", self.shown)]);
        (folder, workspace, editor)
    }

    /// Whether the file still says what its encoding was: what is ASCII by then does not.
    fn tells_its_encoding(&self) -> bool {
        !self.disk_after.is_ascii() || self.disk.is_ascii()
    }

    fn answer(&self) -> String {
        let (old, new) = self.change;
        block("a.txt", &format!("{old}\n"), &format!("{new}\n"))
    }
}

fn bytes(folder: &Folder, path: &str) -> Vec<u8> {
    fs::read(folder.root.join(path)).unwrap()
}

#[test]
fn what_was_proposed_for_an_open_file_is_accepted_when_it_is_closed() {
    for case in cases() {
        let (folder, workspace, editor) = case.folder();
        let proposal = propose(&workspace, &editor, &case.answer());
        let choice = Choice::Proposal(proposal.id.clone());
        let done = workspace.accept(&NoDocuments, &choice, None);
        done.unwrap_or_else(|why| panic!("{}: {why}", case.name));
        assert_eq!(bytes(&folder, "a.txt"), case.disk_after, "{}", case.name);
        if case.tells_its_encoding() {
            let all = Choice::Hunks(ids(&proposal));
            workspace.reject(&NoDocuments, &all, None).unwrap();
            assert_eq!(bytes(&folder, "a.txt"), case.disk, "{}", case.name);
        }
    }
}

#[test]
fn what_was_proposed_for_a_closed_file_is_accepted_when_it_is_open() {
    for case in cases() {
        let (folder, workspace, editor) = case.folder();
        let proposal = propose(&workspace, &NoDocuments, &case.answer());
        let choice = Choice::Proposal(proposal.id.clone());
        let done = workspace.accept(&editor, &choice, None);
        done.unwrap_or_else(|why| panic!("{}: {why}", case.name));
        assert_eq!(editor.text("a.txt"), case.shown_after, "{}", case.name);
        assert_eq!(bytes(&folder, "a.txt"), case.disk, "{}", case.name);
        let all = Choice::Hunks(ids(&proposal));
        workspace.reject(&editor, &all, None).unwrap();
        assert_eq!(editor.text("a.txt"), case.shown, "{}", case.name);
    }
}

#[test]
fn what_was_accepted_in_one_is_taken_back_in_the_other() {
    for case in cases().iter().filter(|case| case.tells_its_encoding()) {
        let (folder, workspace, editor) = case.folder();
        let proposal = propose(&workspace, &editor, &case.answer());
        let done = workspace.accept(&editor, &Choice::Proposal(proposal.id), None);
        let token = done.unwrap().rollback_token.unwrap();
        // Saved and closed.
        fs::write(folder.root.join("a.txt"), &case.disk_after).unwrap();
        rollback(&workspace, &token).unwrap_or_else(|why| panic!("{}: {why}", case.name));
        assert_eq!(bytes(&folder, "a.txt"), case.disk, "{}", case.name);
    }
}

#[test]
fn a_file_that_is_moved_while_open_is_spelled_as_it_was_on_the_disk() {
    for case in cases() {
        let (folder, workspace, editor) = case.folder();
        let (old, new) = case.change;
        let answer = format!(
            "*** Begin Patch\n*** Update File: a.txt\n*** Move to: to/c.txt\n@@\n-{old}\n+{new}\n*** End Patch\n"
        );
        let proposal = propose(&workspace, &editor, &answer);
        let done = workspace.accept(&editor, &Choice::Proposal(proposal.id), None);
        let done = done.unwrap_or_else(|why| panic!("{}: {why}", case.name));
        assert!(!folder.has("a.txt"), "{}", case.name);
        assert_eq!(bytes(&folder, "to/c.txt"), case.disk_after, "{}", case.name);
        rollback(&workspace, &done.rollback_token.unwrap()).unwrap();
        assert_eq!(bytes(&folder, "a.txt"), case.disk, "{}", case.name);
        assert!(!folder.has("to/c.txt"), "{}", case.name);
    }
}

#[test]
fn a_file_is_removed_however_it_is_spelled() {
    let answer = "*** Begin Patch\n*** Delete File: a.txt\n*** End Patch\n";
    for case in cases() {
        for was_open in [true, false] {
            let (folder, workspace, editor) = case.folder();
            let none = NoDocuments;
            let (then, now): (&dyn Documents, &dyn Documents) = match was_open {
                true => (&editor, &none),
                false => (&none, &editor),
            };
            let proposal = propose(&workspace, then, answer);
            let done = workspace.accept(now, &Choice::Proposal(proposal.id), None);
            let done = done.unwrap_or_else(|why| panic!("{}: {why}", case.name));
            assert!(!folder.has("a.txt"), "{}", case.name);
            rollback(&workspace, &done.rollback_token.unwrap()).unwrap();
            assert_eq!(bytes(&folder, "a.txt"), case.disk, "{}", case.name);
        }
    }
}

#[test]
fn what_the_encoding_of_the_file_lacks_is_refused() {
    let folder = folder(&[]);
    let latin = b"caf\xE9\nb\n";
    fs::write(folder.root.join("a.txt"), latin).unwrap();
    let workspace = folder.open();
    let editor = Editor::with(Manner::Honest, &[("a.txt", "café\nb\n")]);
    let proposal = propose(&workspace, &editor, &block("a.txt", "b\n", "\u{2192}\n"));
    let refused = workspace.accept(&NoDocuments, &Choice::Proposal(proposal.id), None);
    assert!(matches!(refused, Err(EditError::Refused(_))), "{refused:?}");
    assert_eq!(bytes(&folder, "a.txt"), latin);
}
