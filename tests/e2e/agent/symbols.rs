//! What `symbols` says of a name: definitions and uses, in the files as the task has them.

use serde_json::Value;

use super::run::{Script, Stage};
use crate::world::World;

const SHAPES: &str = "def area(width, height):\n    return width * height\n\n\ndef areas():\n    return [area(1, 2)]\n";
const MAIN: &str = "from shapes import area\n\nprint(area(2, 3))\n";
const SCRIPT: &str = r#"
[[turn]]
[[turn.call]]
name = "symbols"
arguments = { name = "shapes.area" }

[[turn]]
[[turn.call]]
name = "edit"
arguments = { path = "shapes.py", oldString = "def area(", newString = "UNIT = 1\n\n\ndef area(" }
[[turn.call]]
name = "edit"
arguments = { path = "new.py", oldString = "", newString = "import shapes\n\nWALL = shapes.area(4, 5)\n" }

[[turn]]
[[turn.call]]
name = "symbols"
arguments = { name = "area" }
[[turn.call]]
name = "symbols"
arguments = { name = "volume" }
[[turn.call]]
name = "symbols"
arguments = { name = "the area" }

[[turn]]
[[turn.call]]
name = "finish"
arguments = { summary = "Done." }
"#;

/// The answers of `symbols`, without the marks of data.
fn answers(events: &[Value]) -> Vec<String> {
    let results = events
        .iter()
        .filter(|e| e["kind"] == "tool_result" && e["tool"] == "symbols");
    let text = |event: &Value| {
        let lines = event["text"].as_str().unwrap().lines();
        let said = lines.filter(|line| !line.starts_with("<data-") && !line.starts_with("</data-"));
        said.map(|line| format!("{line}\n")).collect()
    };
    results.map(text).collect()
}

#[test]
fn symbols_lists_definitions_and_uses_as_the_task_has_them_and_no_secrets() {
    let world = World::new(&[
        ("shapes.py", SHAPES),
        ("main.py", MAIN),
        (".env", "area = 1\n"),
        ("notes.txt", "The area is all there is.\n"),
    ]);
    let stage = Stage::with(toml::from_str::<Script>(SCRIPT).unwrap(), world);
    let (events, code) = stage.task().until_it_ends();
    assert_eq!(code, 0, "{events:#?}");
    let said = answers(&events);
    assert_eq!(
        said[0],
        "defined:\n\
         shapes.py:1: function: def area(width, height):\n\
         used:\n\
         main.py:1: from shapes import area\n\
         main.py:3: print(area(2, 3))\n\
         shapes.py:6: return [area(1, 2)]\n"
    );
    assert_eq!(
        said[1],
        "defined:\n\
         shapes.py:4: function: def area(width, height):\n\
         used:\n\
         main.py:1: from shapes import area\n\
         main.py:3: print(area(2, 3))\n\
         new.py:3: WALL = shapes.area(4, 5)\n\
         shapes.py:9: return [area(1, 2)]\n"
    );
    assert_eq!(said[2], "no code here has the name volume\n");
    assert!(said[3].contains("that is no name"), "{}", said[3]);
    stage.stop();
}
