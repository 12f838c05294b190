"""What Zed's sources send, with the settings and lines of the documentation, at the real program.

Zed itself comes in no package. It writes both sides of the cursor into one prompt by the format of
its settings, sends four fields and a key, and reads every field of the answer that is asserted here.
"""

import json
import os
import subprocess
import tomllib
import unittest
import urllib.error
import urllib.request
from pathlib import Path

import docs
from desk import PATIENCE, PRICES, ROOT, Desk, Timed, editors, until

EXTENSION = ROOT / "editors/zed"
#: What Zed builds extensions for.
TARGET = "wasm32-wasip2"

#: How Zed writes a question, and where it wants the answer to end.
FORMATS = {
    "qwen": (
        "<|fim_prefix|>{}<|fim_suffix|>{}<|fim_middle|>",
        ["<|endoftext|>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>"],
    )
}


class Zed(Timed, unittest.TestCase):
    def setUp(self):
        super().setUp()
        self.desk = self.closing(Desk({"a.js": PRICES}))
        (command,) = docs.block("Zed", "sh").splitlines()
        self.process = subprocess.Popen(
            [*command.split(), "--port", "0"],
            stdout=subprocess.PIPE,
            cwd=self.desk.workspace,
            env=self.desk.environment(),
            text=True,
        )
        editors.append(self.process)
        self.addCleanup(self.end)
        self.address = self.process.stdout.readline().split("/v1/")[0]

    def end(self):
        self.process.kill()
        self.process.wait(PATIENCE)
        self.process.stdout.close()
        editors.remove(self.process)

    def here(self, text):
        """The lines of the documentation with the port that this server took."""
        self.assertIn("http://127.0.0.1:8417", text)
        return text.replace("http://127.0.0.1:8417", self.address)

    def shell(self, script):
        done = subprocess.run(
            ["sh", "-c", script], env=self.desk.environment(), capture_output=True, text=True, timeout=PATIENCE
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def test_the_documented_settings_give_a_suggestion(self):
        settings = json.loads(self.here(docs.block("Zed", "json")))["edit_predictions"]
        ours = settings[settings["provider"]]
        prompt, stop = FORMATS[ours["prompt_format"]]
        prefix = PRICES[PRICES.index("export function totalVolume") :] + "\nexport function totalDepth(items) {\n  let"
        body = {
            "model": ours["model"],
            "prompt": prompt.format(prefix, "\n}\n"),
            "max_tokens": ours["max_output_tokens"],
            "stop": stop,
        }
        export = docs.block("Zed", "sh", 1)
        key = self.shell(export + 'printf %s "$ZED_OPEN_AI_COMPATIBLE_EDIT_PREDICTION_API_KEY"')
        request = urllib.request.Request(
            ours["api_url"],
            json.dumps(body).encode(),
            {"Content-Type": "application/json", "Authorization": f"Bearer {key}"},
        )

        def suggestion():
            with urllib.request.urlopen(request, timeout=PATIENCE) as response:
                said = json.load(response)
            for field, kind in {"id": str, "object": str, "created": int, "model": str}.items():
                self.assertIsInstance(said[field], kind)
            for field in ("prompt_tokens", "completion_tokens", "total_tokens"):
                self.assertIsInstance(said["usage"][field], int)
            return said["choices"][0]["text"]

        # It answers while it learns.
        text = until(suggestion, "a suggestion")
        self.assertTrue(" total = 0;".startswith(text.split("\n")[0]), text)

        del request.headers["Authorization"]
        with self.assertRaises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=PATIENCE)
        self.assertEqual(refused.exception.code, 401)
        refused.exception.close()

    def test_the_documented_check_prints_a_suggestion(self):
        check = self.here(docs.block("Editors that ask a model server", "sh"))

        def suggestion():
            return json.loads(self.shell(check))["choices"][0]["text"]

        self.assertIn(until(suggestion, "a suggestion").split()[0], ("total", "total;"))


class Extension(unittest.TestCase):
    def test_its_manifest_announces_one_server_for_languages_by_zeds_names(self):
        manifest = tomllib.loads((EXTENSION / "extension.toml").read_text())
        package = tomllib.loads((EXTENSION / "Cargo.toml").read_text())["package"]
        self.assertEqual((manifest["id"], manifest["schema_version"]), ("pairwright", 1))
        self.assertEqual(manifest["version"], package["version"])
        (server,) = manifest["language_servers"]
        # The name that settings have it by.
        settings = json.loads(docs.block("Zed", "json", 2))
        self.assertEqual(list(settings["lsp"]), [server])
        languages = manifest["language_servers"][server]["languages"]
        self.assertEqual(languages, sorted(set(languages)))
        self.assertLessEqual(set(settings["languages"]), set(languages))

    def test_it_finds_the_program_and_is_built_as_zed_builds_it(self):
        environment = {**os.environ, "CARGO_TARGET_DIR": str(ROOT / "target/zed")}

        def cargo(*arguments):
            command = ["cargo", *arguments, "--quiet", "--locked"]
            done = subprocess.run(command, cwd=EXTENSION, env=environment, capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, done.stderr)

        cargo("test")
        root = subprocess.run(["rustc", "--print", "sysroot"], capture_output=True, text=True, check=True)
        if not (Path(root.stdout.strip()) / "lib/rustlib" / TARGET).exists():
            self.skipTest(f"Rust cannot build for {TARGET} here (rustup target add {TARGET})")
        cargo("build", "--target", TARGET)
        built = ROOT / "target/zed" / TARGET / "debug/pairwright_zed.wasm"
        # A component, not a plain module.
        self.assertEqual(built.read_bytes()[:8], b"\0asm\x0d\0\x01\0")


if __name__ == "__main__":
    unittest.main()
