"""A seeded typist in a real VS Code, with every frame looked at."""

import os
import random
import unittest

from desk import Timeout, limit_time, until
from vscode import Case, installed

SENTENCE = "alpha beta gamma delta epsilon"

#: Writes down what is on screen in every frame: the text, and the ghost text behind it.
WATCH = """() => {
  window.frames_seen = [];
  const plain = e => e.textContent.replace(/\\u00a0/g, ' ').replace(/[\\u200b\\u200c]/g, '');
  const isGhost = e => e && e.closest('[class*=ghost-text]');
  window.look = () => {
    const lines = [...document.querySelectorAll('.editor-instance .view-lines .view-line')];
    lines.sort((a, b) => parseFloat(a.style.top) - parseFloat(b.style.top));
    let ghost = '';
    const text = lines.map(line => {
      const copy = line.cloneNode(true);
      for (const e of [...copy.querySelectorAll('[class*=ghost-text]')]) {
        if (!isGhost(e.parentElement)) { ghost += plain(e); }
      }
      for (const e of [...copy.querySelectorAll('[class*=ghost-text]')]) { e.remove(); }
      return plain(copy);
    }).join('\\n');
    return [text, ghost];
  };
  let last = '';
  const frame = () => {
    const now = window.look();
    const name = now.join('|');
    if (name !== last) { window.frames_seen.push(now); last = name; }
    requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
}"""


def goes_on(text, _suffix=""):
    """What the model says after `text`."""
    for length in range(min(len(text), len(SENTENCE)), 0, -1):
        if text.endswith(SENTENCE[:length]):
            return SENTENCE[length:]
    return ""


@installed
class VsCodeTypist(Case):
    SEQUENCES = int(os.environ.get("PAIRWRIGHT_SEQUENCES", "100"))

    def test_nothing_stale_or_doubled_is_ever_shown_or_taken(self):
        limit_time(120 + self.SEQUENCES)
        window = self.window({"a.txt": ""}, self.model(goes_on, delay=0.01))
        window.open("a.txt")
        until(lambda: self.desk.sent("textDocument/didOpen"), "the file is opened at the server")
        window.page.evaluate(WATCH)
        dice = random.Random(1139)
        counts = {"frames": 0, "shown": 0, "taken": 0, "undone": 0, "dismissed": 0}
        mirror = ""

        def text():
            return window.page.evaluate("window.look()[0]")

        def wait_text(expected):
            try:
                until(lambda: text() == expected, f"text {expected!r}")
            except Timeout as late:
                raise Timeout(f"{late}; there is {text()!r}") from None

        def check_frames(step):
            frames = window.page.evaluate("window.frames_seen.splice(0)")
            counts["frames"] += len(frames)
            for seen, ghost in frames:
                if ghost:
                    self.assertEqual(ghost.strip(), goes_on(seen).strip(), f"step {step}: after {seen!r}")

        for step in range(self.SEQUENCES):
            kind = dice.random()
            if mirror.count("\n") > 12:
                window.press("Control+a", "Delete")
                mirror = ""
            elif len(mirror.rsplit("\n", 1)[-1]) > 60 or kind < 0.05:
                window.press("Enter")
                mirror += "\n"
            elif kind < 0.5:
                word = dice.choice(SENTENCE.split())
                keys = word[: dice.randint(1, len(word))] + dice.choice(["", " "])
                window.page.keyboard.type(keys)
                mirror += keys
            elif kind < 0.6 and mirror and not mirror.endswith("\n"):
                window.press("Backspace")
                mirror = mirror[:-1]
            else:
                # Begins a word, so that there is something to suggest.
                start = dice.choice(["alp", "alpha b", "alpha beta ga"])
                window.page.keyboard.type(f" {start}")
                mirror += f" {start}"
                wait_text(mirror)
                rest = goes_on(mirror)
                window.wait_ghost(rest.strip())
                counts["shown"] += 1
                what = dice.choice(["all", "all, undone", "word", "dismissed"])
                if what.startswith("all"):
                    window.press("Tab")
                    wait_text(mirror + rest)
                    counts["taken"] += 1
                    if what == "all":
                        mirror += rest
                    else:
                        window.press("Control+z")
                        wait_text(mirror)
                        counts["undone"] += 1
                elif what == "word":
                    window.press("Control+ArrowRight")
                    until(lambda: text() != mirror, "a word is taken")
                    now = text()
                    self.assertTrue((mirror + rest).startswith(now), f"step {step}: {now!r}")
                    mirror = now
                    counts["taken"] += 1
                else:
                    window.press("Escape")
                    until(lambda: not window.ghost(), "no ghost text")
                    counts["dismissed"] += 1
            if step % 10 == 9:
                wait_text(mirror)
                check_frames(step)
        wait_text(mirror)
        check_frames(self.SEQUENCES)
        self.assertEqual(window.save("a.txt"), mirror)
        for what, n in counts.items():
            self.assertGreater(n, self.SEQUENCES // 60, what)
        self.assertEqual(self.desk.broken(), [])
        print(f"vscode: typist: {self.SEQUENCES} steps, {counts}", flush=True)


if __name__ == "__main__":
    unittest.main()
