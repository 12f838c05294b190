"""An archive of a release: installed, installed over and removed, as README.md says."""

import os
import subprocess
import tarfile
import unittest

import docs
from desk import ROOT, SERVER, Desk, Timed
from vscode import NODE


class Archive(Timed, unittest.TestCase):
    seconds = 180

    def test_an_archive_is_installed_runs_and_is_removed_without_a_trace(self):
        desk = self.closing(Desk({"a.txt": "one\n"}))
        out = desk.folder / "archive"
        environment = {**os.environ, "PATH": f"{NODE}:{os.environ['PATH']}"}
        release = [ROOT / "scripts/release", "--binary", SERVER, out]
        made = subprocess.run(release, env=environment, capture_output=True, text=True)
        self.assertEqual(made.returncode, 0, made.stderr)
        (archive,) = out.glob("*.tar.gz")
        self.assertEqual(made.stdout.strip(), str(archive))

        def run(script, folder=out, **more):
            done = subprocess.run(
                ["sh", "-ec", script], cwd=folder, env=desk.environment(**more), capture_output=True, text=True
            )
            self.assertEqual(done.returncode, 0, done.stderr)
            return done.stdout

        def files():
            return sorted(str(p.relative_to(desk.home)) for p in desk.home.rglob("*") if p.is_file())

        before = files()
        install = docs.block("Install, upgrade, remove", "sh", page=docs.FRONT)
        for what in ("installed", "installed over it"):
            with self.subTest(what):
                run(install)
                program = desk.home / ".local/bin/pairwright"
                ours = {"PATH": f"{program.parent}:/usr/bin:/bin"}
                self.assertIn("one", run("pairwright --version && cat a.txt", desk.workspace, **ours))
                # Its own pages, completions, plugin and terms.
                share = desk.home / ".local/share"
                for part in (
                    "man/man1/pairwright.1",
                    "man/man1/pairwright-task.1",
                    "bash-completion/completions/pairwright",
                    "zsh/site-functions/_pairwright",
                    "fish/vendor_completions.d/pairwright.fish",
                    "doc/pairwright/LICENSE-MIT",
                    "doc/pairwright/editors/PROTOCOL.md",
                    "pairwright/neovim/lua/pairwright/init.lua",
                ):
                    self.assertGreater((share / part).stat().st_size, 0, part)
                terms = (share / "doc/pairwright/LICENSES-OF-OTHERS").read_text()
                for package in ("tantivy ", "tree-sitter ", "rustls ", "Rust's standard library", "GNU C Library"):
                    self.assertIn(f"\n{package}", terms)
                for words in ("GNU LESSER GENERAL PUBLIC LICENSE", "can be linked anew"):
                    self.assertIn(words, terms)
                completing = ". ~/.local/share/bash-completion/completions/pairwright; complete -p pairwright"
                self.assertIn("_pairwright", run(f"bash -c '{completing}'"))
        with tarfile.open(archive) as packed:
            owners = {(member.uid, member.gid) for member in packed}
            strange = [m.name for m in packed if m.name.startswith(("/", "..")) or not (m.isfile() or m.isdir())]
        self.assertEqual((owners, strange), ({(0, 0)}, []))

        run("pairwright doctor", desk.workspace, **ours)
        self.assertGreater(len(files()), len(before))
        run(docs.block("Install, upgrade, remove", "sh", 1, page=docs.FRONT))
        self.assertFalse(program.exists())
        self.assertEqual([path for path in files() if "share" in path], [])
        run(docs.block("Install, upgrade, remove", "sh", 2, page=docs.FRONT))
        self.assertEqual(files(), [])


if __name__ == "__main__":
    unittest.main()
