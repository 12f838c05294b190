"""Every block of the documentation is used by a test, and its settings are settings."""

import ast
import json
import subprocess
import unittest
from pathlib import Path

import docs
from desk import SERVER, Desk

HERE = Path(__file__).resolve().parent


def used():
    """What the tests call `docs.block` with."""
    names = {name: getattr(docs, name) for name in ("EDITORS", "VSCODE", "NEOVIM", "FRONT")}
    for file in HERE.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "docs.block":
                number, page = 0, docs.EDITORS
                heading, language, *more = (ast.literal_eval(a) for a in node.args)
                if more:
                    (number,) = more
                for keyword in node.keywords:
                    page = names[ast.unparse(keyword.value).removeprefix("docs.")]
                yield heading, language, number, page


class Docs(unittest.TestCase):
    def test_every_block_is_used_by_a_test(self):
        self.assertEqual(sorted(set(docs.blocks())), sorted(set(used())))

    def test_the_lines_for_a_model_are_in_force(self):
        lines = docs.block("Add a model", "toml", page=docs.FRONT)
        self.assertIn("http://localhost:8012", lines)
        desk = Desk()
        self.addCleanup(desk.close)
        (desk.home / ".config/pairwright/config.toml").write_text(lines)
        done = subprocess.run(
            [SERVER, "doctor", "--json"], cwd=desk.workspace, env=desk.environment(), capture_output=True, text=True
        )
        said = json.dumps(json.loads(done.stdout))
        self.assertIn("http://localhost:8012", said)
        self.assertIn("llamacpp", said)


if __name__ == "__main__":
    unittest.main()
