"""The reference implementation of the protocol as a client of its own."""

import subprocess
import unittest

from desk import Desk, limit_time
from model import Model
from vscode import EXTENSION, NODE, Case, installed


@installed
class Protocol(Case):
    def test_a_session_by_the_reference_implementation(self):
        limit_time(60)
        model = Model(lambda prefix, _: "1 + 2;" if prefix.endswith("=") else "")
        self.addCleanup(model.close)
        settings = {**model.settings(), "local": {"enabled": False}, "complete": {"deadlineMs": 5000}}
        desk = Desk({"a.js": "x="}, settings)
        self.addCleanup(desk.close)
        script = EXTENSION.parent.parent / "tests/editors/protocol_client.mjs"
        done = subprocess.run(
            [NODE / "node", script, desk.programs / "pairwright", desk.workspace.as_uri(), EXTENSION / "node_modules"],
            env=desk.environment(),
            capture_output=True,
            text=True,
            timeout=50,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(desk.broken(), [])


if __name__ == "__main__":
    unittest.main()
