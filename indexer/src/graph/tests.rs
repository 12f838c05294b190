use super::map::MapQuery;
use crate::{path::Tokens, reader::Reader, update::tests::Workspace};

fn map(reader: &Reader, budget: u32, focus: &[&str]) -> String {
    let focus: Vec<_> = focus.iter().map(|&path| path.into()).collect();
    let map = reader.map(&MapQuery {
        budget: Tokens(budget),
        focus: &focus,
        mentioned: "",
    });
    assert!(map.tokens <= Tokens(budget), "{map:?}");
    assert_eq!(map.tokens, Tokens::estimate(&map.text));
    map.text
}

#[test]
fn a_map_shows_all_that_is_used_when_there_is_room() {
    let one = ("a.rs", "pub fn alpha() {}\n");
    let two = ("b.rs", "pub struct Beta;\npub fn unused() {}\n");
    let uses = ("main.rs", "fn main() { alpha(); let b: Beta = alpha(); }\n");
    let (a, b) = ("a.rs:\n  pub fn alpha()\n", "b.rs:\n  pub struct Beta;\n");
    for (files, expected) in [
        (&[][..], String::new()),
        (&[("a.txt", "")], String::new()),
        (&[uses], String::new()),
        (&[one, uses], a.to_owned()),
        (&[one, two, uses], format!("{a}{b}")),
    ] {
        let workspace = Workspace::new(files);
        let reader = workspace.settled().reader();
        assert_eq!(map(&reader, 1_000, &[]), expected, "{files:?}");
        for budget in [0, 1, 8, 12, 16, 24] {
            map(&reader, budget, &[]);
            map(&reader, budget, &["main.rs", "nowhere.rs"]);
        }
    }
}

#[test]
fn a_map_with_little_room_shows_what_the_focus_uses() {
    let workspace = Workspace::new(&[
        ("near.py", "def wanted_by_focus(x):\n    return x\n"),
        ("far.py", "def wanted_by_others(x):\n    return x\n"),
        (
            "focus.py",
            "from near import wanted_by_focus\n\nwanted_by_focus(1)\n",
        ),
        (
            "other.py",
            "from far import wanted_by_others\n\nwanted_by_others(1)\n",
        ),
        (
            "another.py",
            "from far import wanted_by_others\n\nwanted_by_others(2)\n",
        ),
    ]);
    let reader = workspace.settled().reader();
    for (focus, expected) in [
        (&["focus.py"][..], "near.py:\n  def wanted_by_focus(x)\n"),
        (&["other.py"], "far.py:\n  def wanted_by_others(x)\n"),
        (&[], "far.py:\n  def wanted_by_others(x)\n"),
    ] {
        assert_eq!(map(&reader, 16, focus), expected, "{focus:?}");
    }
}

#[test]
fn a_map_shows_types_and_functions_and_of_members_those_that_are_told_by_their_name() {
    let workspace = Workspace::new(&[
        (
            "a.rs",
            "pub struct Wanted { pub next: u8 }\n\
             impl Wanted {\n    pub fn iter(&self) {}\n    pub fn wait_for_answer(&self) {}\n}\n",
        ),
        (
            "main.rs",
            "fn main(w: Wanted) { w.iter(); w.iter(); w.next; w.next; w.wait_for_answer(); }\n",
        ),
    ]);
    let reader = workspace.settled().reader();
    let method = "  impl Wanted\n    pub fn wait_for_answer(&self)\n";
    assert_eq!(
        map(&reader, 28, &[]),
        format!("a.rs:\n  pub struct Wanted\n{method}")
    );
    assert_eq!(
        map(&reader, 1_000, &[]),
        "a.rs:\n  pub struct Wanted\n  impl Wanted\n    pub fn iter(&self)\n    pub fn wait_for_answer(&self)\n"
    );
}
