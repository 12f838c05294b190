"""Every block of the documentation is used by a test, and its settings are settings."""

import ast
import json
import subprocess
import tomllib
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

    def test_the_lines_for_chat_and_tasks_are_in_force(self):
        desk = Desk()
        self.addCleanup(desk.close)
        settings = desk.home / ".config/pairwright"
        chat = docs.block("Ask about the code", "toml", page=docs.FRONT)
        task = docs.block("Give it a task", "toml", page=docs.FRONT)
        servers = docs.block("Give it a task", "toml", 2, page=docs.FRONT)
        startup = docs.block("Give it a task", "toml", 4, page=docs.FRONT)
        outbound = docs.block("Decide what leaves your machine", "toml", page=docs.FRONT)
        (settings / "config.toml").write_text(chat + task + servers + startup + outbound)
        doctor = [SERVER, "doctor", "--json"]
        done = subprocess.run(doctor, cwd=desk.workspace, env=desk.environment(), capture_output=True, text=True)
        for block in (chat, task):
            (model,) = tomllib.loads(block)["models"].values()
            self.assertIn(model["model"], done.stdout)
        for name in tomllib.loads(servers)["mcp"]["servers"]:
            self.assertIn(name, done.stdout)
        said = json.loads(done.stdout)
        self.assertEqual([p for p in said["problems"] if "setting" in p["message"]], [])
        in_force = {one["key"] for one in said["settings"]}
        wanted = {f"agent.startup.{title}" for title in tomllib.loads(startup)["agent"]["startup"]}
        wanted |= {f"outbound.{name}" for name in tomllib.loads(outbound)["outbound"]}
        self.assertEqual(wanted - in_force, set())

    def test_the_lines_for_sandboxes_elsewhere_are_in_force(self):
        lines = docs.block("Commands", "toml", page=docs.FRONT)
        remote = tomllib.loads(lines)["sandbox"]["remote"]
        desk = self.desk()
        (desk.home / ".config/pairwright/config.toml").write_text(lines)
        done = subprocess.run(
            [SERVER, "doctor", "--json"], cwd=desk.workspace, env=desk.environment(), capture_output=True, text=True
        )
        said = json.loads(done.stdout)
        self.assertEqual(said["sandbox"]["place"].rstrip("/"), remote["url"])
        self.assertIn(f"{remote['apiKeyEnv']} is not set", done.stdout)

    def test_the_rules_for_tasks_can_be_read(self):
        desk = Desk()
        self.addCleanup(desk.close)
        settings = desk.home / ".config/pairwright"
        (settings / "config.toml").write_text('[models.agent]\nurl = "http://127.0.0.1:9"\nmodel = "none"\n')
        rules = docs.block("Give it a task", "toml", 1, page=docs.FRONT)
        tools = docs.block("Give it a task", "toml", 3, page=docs.FRONT)
        rules = f"{rules}\n{tools}"
        for text, is_good in ((rules, True), (rules.replace("deny", "perhaps"), False)):
            (settings / "policy.toml").write_text(text)
            task = [SERVER, "task", "x", "--json"]
            environment = desk.environment(PAIRWRIGHT_WORKSPACE_TRUSTED='["/"]')
            done = subprocess.run(
                task, cwd=desk.workspace, env=environment, capture_output=True, text=True, timeout=60
            )
            self.assertEqual("policy.toml" not in done.stderr, is_good, done.stderr)

    def desk(self):
        desk = Desk()
        self.addCleanup(desk.close)
        return desk

    def test_panels_of_editors_are_answered(self):
        """By what their settings start."""
        for block in (docs.block("Zed", "json", 1), docs.block("JetBrains IDEs", "json")):
            (server,) = json.loads(block)["agent_servers"].values()
            self.assertEqual(server["command"], "pairwright")
            self.assertTrue(self.desk().speaks_acp([SERVER, *server["args"]]))

    def test_zeds_settings_for_the_language_server_start_it(self):
        settings = json.loads(docs.block("Zed", "json", 2))
        ours = settings["lsp"]["pairwright"]
        self.assertIn("pairwright", settings["languages"]["Rust"]["language_servers"])
        start = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
            "processId": None, "rootUri": None, "capabilities": {}, "initializationOptions": ours["settings"],
        }})
        done = subprocess.run(
            [SERVER, *ours["binary"]["arguments"]],
            cwd=(desk := self.desk()).workspace,
            env=desk.environment(),
            input=f"Content-Length: {len(start)}\r\n\r\n{start}".encode(),
            capture_output=True,
            timeout=60,
        )
        self.assertIn(b"completionProvider", done.stdout)
        self.assertNotIn(b"unknown setting", done.stdout)


if __name__ == "__main__":
    unittest.main()
