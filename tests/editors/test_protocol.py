"""The reference implementation of the protocol as a client of its own."""

import subprocess
import threading
import unittest

from desk import Desk
from vscode import EXTENSION, NODE, Case, installed


@installed
class Protocol(Case):
    seconds = 60

    def test_a_session_by_the_reference_implementation(self):
        # The question that is taken back has no answer that could come before it is.
        done_with = threading.Event()
        self.addCleanup(done_with.set)

        def answer(prefix, _):
            if prefix.endswith("slow="):
                done_with.wait()
            return "1 + 2;"

        model = self.model(answer)
        settings = {**model.settings(), "local": {"enabled": False}, "complete": {"deadlineMs": 5000}}
        desk = self.closing(Desk({"a.js": "x="}, settings))
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
