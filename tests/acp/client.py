"""`pairwright acp`, as the official client SDK of the Agent Client Protocol sees it.

    pip install -r tests/acp/requirements.txt
    python tests/acp/client.py target/debug/pairwright [CHECK…]

Starts a scripted model server, runs every check below against the real program, and exits with 1
when one fails.
"""

import asyncio
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import traceback

from acp import (
    PROTOCOL_VERSION,
    RequestError,
    RequestPermissionResponse,
    resource_link_block,
    spawn_agent_process,
    text_block,
)
from acp.schema import (
    AllowedOutcome,
    ClientCapabilities,
    DeniedOutcome,
    EmbeddedResourceContentBlock,
    EnvVariable,
    FileSystemCapabilities,
    HttpHeader,
    HttpMcpServer,
    McpServerStdio,
    ReadTextFileResponse,
    SseMcpServer,
    TextResourceContents,
)

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "support"))

from scripted_model import ChatModel, Gate, begin_call, call, go_on, in_turn  # noqa: E402

SUPPORT = pathlib.Path(__file__).resolve().parents[1] / "support"
MATHS = "def area_of_circle(radius):\n    return 3 * radius * radius\n"
BETTER = "    return math.pi * radius ** 2\n"
EDIT = (
    "Use pi:\n\nsrc/maths.py\n```python\n<<<<<<< SEARCH\n    return 3 * radius * radius\n"
    f"=======\n{BETTER}>>>>>>> REPLACE\n```\n"
)
LOOKING = ["Looking.", call("read_file", path="src/maths.py")]
FINISH = [call("finish", summary="It is exact now.", succeeded=True)]
PATIENCE = 30


class Client:
    """What an editor does: keeps the updates and answers questions with `choose`."""

    def __init__(self):
        self.updates = []
        self.questions = []
        self.choose = lambda options: options[0]
        self.may_choose = asyncio.Event()
        self.may_choose.set()
        self.changed = asyncio.Event()
        #: Texts that are not saved, by path; `None` for a client that has no files.
        self.buffers = None
        self.read, self.written = [], []
        self.may_write = True

    async def session_update(self, session_id, update, **_):
        self.updates.append(update)
        self.changed.set()

    async def request_permission(self, session_id, tool_call, options, **_):
        self.questions.append((tool_call, options))
        await self.may_choose.wait()
        chosen = self.choose(options)
        if chosen is None:
            return RequestPermissionResponse(outcome=DeniedOutcome(outcome="cancelled"))
        outcome = AllowedOutcome(outcome="selected", option_id=chosen.option_id)
        return RequestPermissionResponse(outcome=outcome)

    async def read_text_file(self, session_id, path, line=None, limit=None, **_):
        self.read.append(path)
        known = self.buffers.get(path)
        try:
            return ReadTextFileResponse(content=pathlib.Path(path).read_text() if known is None else known)
        except OSError as why:
            raise RequestError(-32002, str(why)) from why

    async def write_text_file(self, session_id, path, content, **_):
        """Into the buffer, which stays unsaved."""
        self.written.append(path)
        if not self.may_write:
            raise RequestError(-32000, "it is locked")
        self.buffers[path] = content

    def on_connect(self, conn):
        pass

    def of(self, kind):
        return [update for update in self.updates if update.session_update == kind]

    def said(self):
        return "".join(update.content.text for update in self.of("agent_message_chunk"))

    async def wait_for(self, kind):
        async with asyncio.timeout(PATIENCE):
            while not self.of(kind):
                self.changed.clear()
                await self.changed.wait()


class Stage:
    """A user's machine in miniature, with the program on it and a client connected."""

    def __init__(self, program):
        self.program = program
        self.folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self.home = pathlib.Path(self.folder.name, "home")
        self.root = pathlib.Path(self.folder.name, "workspace")
        (self.root / "src").mkdir(parents=True)
        self.file = self.root / "src/maths.py"
        self.file.write_text(MATHS)
        self.model = ChatModel(in_turn([]))
        config = self.home / ".config/pairwright"
        config.mkdir(parents=True)
        self.config = config / "config.toml"
        self.config.write_text(f"[models.chat]\nurl = '{self.model.url}'\nmodel = 'script'\n")

    def trust(self):
        """What the user said once."""
        subprocess.run([self.program, "trust", self.root], env=self.env(), check=True, stdout=subprocess.DEVNULL)

    def script(self, *answers):
        """Has the model give these answers from now on."""
        n_asked = len(self.model.asked)
        in_order = in_turn(*answers)
        self.model.script = lambda body, n: in_order(body, n - n_asked)

    async def until_asked(self, n):
        """Waits until the model was asked `n` times."""
        async with asyncio.timeout(PATIENCE):
            while len(self.model.asked) < n:
                await asyncio.sleep(0.01)

    def env(self):
        return {"HOME": str(self.home), "PATH": os.environ["PATH"]}

    def connect(self, client):
        env = self.env()
        return spawn_agent_process(client, self.program, "acp", env=env, cwd=self.root)


async def begin(connection, stage, client=None, mcp_servers=()):
    files = client is not None and client.buffers is not None
    capabilities = ClientCapabilities(fs=FileSystemCapabilities(read_text_file=files, write_text_file=files))
    answer = await connection.initialize(protocol_version=PROTOCOL_VERSION, client_capabilities=capabilities)
    assert answer.protocol_version == PROTOCOL_VERSION and answer.agent_capabilities.load_session
    session = await connection.new_session(cwd=str(stage.root), mcp_servers=list(mcp_servers))
    assert session.modes.current_mode_id == "ask", session
    return session.session_id


async def answer_and_hunks(stage):
    """A question is answered, its places are links, its edits a diff that is asked about."""
    stage.model.script = in_turn([EDIT])
    client = Client()
    async with stage.connect(client) as (connection, _):
        session = await begin(connection, stage)
        link = resource_link_block("maths.py", stage.file.as_uri())
        prompt = [text_block("Make this exact: "), link]
        answer = await connection.prompt(session_id=session, prompt=prompt)
    assert answer.stop_reason == "end_turn", answer
    assert client.said().startswith("Use pi:") and "](file://" in client.said(), client.said()
    asked = stage.model.asked[-1]["messages"][-1]["content"]
    assert asked.startswith("Make this exact: src/maths.py") and "area_of_circle" in asked, asked
    (call, options), = client.questions
    diff = call.content[0]
    assert diff.type == "diff" and diff.path.endswith("src/maths.py"), call
    assert diff.old_text == MATHS and BETTER in diff.new_text, diff
    assert [option.kind for option in options] == ["allow_once", "reject_once"], options
    assert client.of("tool_call_update")[-1].status == "completed", client.updates
    assert BETTER in stage.file.read_text()
    commands = client.of("available_commands_update")[0].available_commands
    assert [command.name for command in commands] == ["search", "resume", "stop", "rollback"], commands


async def each_change(stage):
    """Hunks are decided one by one; one token takes back what was applied of them."""
    lines = [f"line_{n} = {n}" for n in range(30)]
    before = "\n".join(lines) + "\n"
    stage.file.write_text(before)
    edits = [call("edit", path="src/maths.py", oldString=f"{lines[n]}\n", newString=f"{lines[n]}00\n") for n in (2, 12, 22)]
    stage.config.write_text(stage.config.read_text() + stage.config.read_text().replace("chat", "agent"))
    # What is chosen of the proposal and of its three hunks, and which of them are in the file then.
    for chosen, applied in (
        (["Decide each change", "Apply", "Reject", "Apply"], (2, 22)),
        (["Decide each change", "Reject", "Apply", None], (12,)),
        (["Decide each change", None], ()),
    ):
        stage.script(edits, FINISH)
        stage.file.write_text(before)
        answers = iter(chosen)

        def choose(options):
            wanted = next(answers)
            return next((option for option in options if option.name == wanted), None)

        client = Client()
        client.choose = choose
        async with stage.connect(client) as (connection, _):
            session = await begin(connection, stage)
            await connection.set_session_mode(session_id=session, mode_id="review")
            await connection.prompt(session_id=session, prompt=[text_block("Change them.")])
            assert len(client.questions) == len(chosen), client.questions
            for n, (tool_call, _) in enumerate(client.questions[1:]):
                diff, = tool_call.content
                assert tool_call.title == f"Change {n + 1} of 3: src/maths.py:{(3, 13, 23)[n]}", tool_call
                assert diff.old_text == before, diff
                assert diff.new_text.count("00\n") == before.count("00\n") + 1, "a hunk is shown alone"
            now = before
            for n in applied:
                now = now.replace(f"{lines[n]}\n", f"{lines[n]}00\n")
            assert stage.file.read_text() == now, chosen
            if applied:
                last = client.of("tool_call_update")[-1].content[0].content.text
                command = last.split("`")[1]
                assert command.startswith("/rollback "), last
                for said, text in ((command, before), ("/rollback nonsense", before)):
                    await connection.prompt(session_id=session, prompt=[text_block(said)])
                    assert stage.file.read_text() == text, said
                assert "Taken back: src/maths.py" in client.said() and "Not taken back" in client.said(), client.said()


async def live_output(stage):
    """What a command prints is shown while it runs, and what it took of the window and the purse."""
    (stage.root / "test_slow.py").write_text(
        "import os, sys, time, unittest\n\nclass Slow(unittest.TestCase):\n    def test(self):\n"
        "        print('it begins', flush=True)\n"
        "        end = time.monotonic() + 3\n"
        "        while time.monotonic() < end:\n            pass\n"
        "        print('it ends', flush=True)\n")
    stage.config.write_text(
        stage.config.read_text().replace("chat", "agent") + "prices = { input = 1000.0, output = 1000.0 }\n")
    stage.script([call("run", command="python3 -m unittest")], FINISH)
    client = Client()
    async with stage.connect(client) as (connection, _):
        session = await begin(connection, stage)
        await connection.set_session_mode(session_id=session, mode_id="review")
        await connection.prompt(session_id=session, prompt=[text_block("Test.")])
    run = client.of("tool_call")[0].tool_call_id
    shown = [
        (update.status, update.content[0].content.text)
        for update in client.of("tool_call_update") if update.tool_call_id == run and update.content]
    assert shown[0][0] == "in_progress" and "it begins" in shown[0][1] and "it ends" not in shown[0][1], shown
    assert shown[-1][0] == "completed" and "it ends" in shown[-1][1], shown
    usage = client.of("usage_update")
    assert [one.used for one in usage] == [110, 110] and usage[-1].size == 128_000, usage
    assert [round(one.cost.amount, 3) for one in usage] == [0.11, 0.22] and usage[0].cost.currency == "USD", usage


async def live_edit(stage):
    """What a model writes into a file is shown in its call while it writes, and the hunks with its result."""
    gate = Gate()
    written = '{"path": "src/maths.py", "oldString": "    return 3 * radius * radius\\n", "newString": "    exact = math.pi\\n'
    rest = '    return exact * radius ** 2\\n"}'
    stage.script([begin_call("edit", written), gate, go_on(rest)], FINISH)
    client = Client()
    async with stage.connect(client) as (connection, _):
        session = await begin(connection, stage)
        await connection.set_session_mode(session_id=session, mode_id="review")
        asking = asyncio.ensure_future(connection.prompt(session_id=session, prompt=[text_block("Make it exact.")]))
        await client.wait_for("tool_call_update")
        edit, = client.of("tool_call")
        assert (edit.kind, edit.title, edit.status) == ("edit", "edit src/maths.py", "pending"), edit
        update, = client.of("tool_call_update")
        shown = (update.tool_call_id, update.status, update.content[0].content.text)
        assert shown == (edit.tool_call_id, "in_progress", "    exact = math.pi\n"), shown
        assert stage.file.read_text() == MATHS and not client.questions
        gate.open.set()
        await asking
    same = [one for one in client.of("tool_call") if one.tool_call_id == edit.tool_call_id]
    assert len(same) == 1, same
    updates = [one for one in client.of("tool_call_update") if one.tool_call_id == edit.tool_call_id]
    text, diff = updates[-1].content
    assert updates[-1].status == "completed" and "changed src/maths.py" in text.content.text, updates[-1]
    assert diff.path == str(stage.file) and diff.old_text == MATHS, diff
    assert "    exact = math.pi\n    return exact * radius ** 2\n" in diff.new_text, diff
    assert stage.file.read_text() == diff.new_text


async def resume_and_close(stage):
    """A session is taken up without being told again, and one that is closed is gone until then."""
    stage.model.script = lambda body, _: [f"Message {len(body['messages'])}."]
    client = Client()
    async with stage.connect(client) as (connection, _):
        session = await begin(connection, stage)
        await connection.prompt(session_id=session, prompt=[text_block("First?")])
        await connection.close_session(session_id=session)
        try:
            await connection.prompt(session_id=session, prompt=[text_block("Second?")])
            raise AssertionError("a session that is closed was asked")
        except RequestError as error:
            assert "no session" in str(error), error
        client.updates.clear()
        await connection.resume_session(cwd=str(stage.root), session_id=session, mcp_servers=[])
        assert not client.said() and not client.of("user_message_chunk"), client.updates
        await connection.prompt(session_id=session, prompt=[text_block("Second?")])
    assert client.said() == "Message 4.", client.said()


async def worktree(stage):
    """With the setting `agent.worktree` a task ends as a commit on a branch of its own."""
    run = lambda *words: subprocess.run(  # noqa: E731
        ["git", "-c", "user.name=t", "-c", "user.email=t@t", *words],
        cwd=stage.root, env=stage.env(), check=True, capture_output=True, text=True).stdout
    run("init", "-q", "-b", "main")
    run("add", "-A")
    run("commit", "-q", "-m", "First")
    stage.config.write_text(stage.config.read_text() + "[agent]\nworktree = true\n")
    edit = call("edit", path="src/maths.py", oldString="3 * radius * radius", newString="math.pi * radius ** 2")
    stage.script([edit], FINISH)
    client = Client()
    async with stage.connect(client) as (connection, _):
        session = await begin(connection, stage)
        await connection.set_session_mode(session_id=session, mode_id="review")
        await connection.prompt(session_id=session, prompt=[text_block("Make it exact.")])
    assert stage.file.read_text() == MATHS and not client.questions, client.questions
    branch = run("branch", "--list", "--format=%(refname:short)", "agent/*").strip()
    assert BETTER in run("show", f"{branch}:src/maths.py"), branch
    told = "".join(update.content.text for update in client.of("agent_thought_chunk"))
    assert f"git merge {branch}" in told, told


async def refused_hunks(stage):
    """What is not allowed is not written, whether refused or cancelled."""
    stage.model.script = in_turn([EDIT])
    for choose in (lambda options: options[1], lambda options: None):
        client = Client()
        client.choose = choose
        async with stage.connect(client) as (connection, _):
            session = await begin(connection, stage)
            await connection.prompt(session_id=session, prompt=[text_block("Edit.")])
        assert len(client.questions) == 1, client.updates
        assert stage.file.read_text() == MATHS


async def load(stage):
    """A session is taken up by another process, and what was said is shown again."""
    stage.model.script = lambda body, _: [f"Message {len(body['messages'])}."]
    async with stage.connect(Client()) as (connection, _):
        session = await begin(connection, stage)
        await connection.prompt(session_id=session, prompt=[text_block("First?")])
    client = Client()
    async with stage.connect(client) as (connection, _):
        await connection.initialize(protocol_version=PROTOCOL_VERSION)
        await connection.load_session(cwd=str(stage.root), session_id=session, mcp_servers=[])
        shown = [update.content.text for update in client.of("user_message_chunk")]
        assert (shown, client.said()) == (["First?"], "Message 2."), client.updates
        await connection.prompt(session_id=session, prompt=[text_block("Second?")])
        assert client.said() == "Message 2.Message 4.", client.said()
        listed = await connection.list_sessions(cwd=str(stage.root))
        assert [(s.session_id, s.title) for s in listed.sessions] == [(session, "First?")], listed
        try:
            await connection.load_session(cwd=str(stage.root), session_id="s_none", mcp_servers=[])
            raise AssertionError("a session that is not there was loaded")
        except RequestError as error:
            assert "no chat session" in str(error), error


async def load_of_tasks(stage):
    """A session whose prompts were tasks is listed, and shown with what they did where they began."""
    stage.script(LOOKING, FINISH, ["Said by chat."], LOOKING, [call("finish", summary="It is exact still.")])
    async with stage.connect(Client()) as (connection, _):
        session = await begin(connection, stage)
        for mode, prompt in (("plan", "First?"), ("ask", "Second?"), ("plan", "Third?")):
            await connection.set_session_mode(session_id=session, mode_id=mode)
            await connection.prompt(session_id=session, prompt=[text_block(prompt)])
    for take_up in ("load_session", "resume_session"):
        client = Client()
        async with stage.connect(client) as (connection, _):
            await connection.initialize(protocol_version=PROTOCOL_VERSION)
            await getattr(connection, take_up)(cwd=str(stage.root), session_id=session, mcp_servers=[])
            listed = await connection.list_sessions(cwd=str(stage.root))
        assert [(s.session_id, s.title) for s in listed.sessions] == [(session, "First?")], listed
        shown = [
            (update.session_update, update.content.text) for update in client.updates
            if update.session_update in ("user_message_chunk", "agent_message_chunk")]
        expected = [
            ("user_message_chunk", "First?"), ("agent_message_chunk", "Looking."), ("agent_message_chunk", "It is exact now."),
            ("user_message_chunk", "Second?"), ("agent_message_chunk", "Said by chat."),
            ("user_message_chunk", "Third?"), ("agent_message_chunk", "Looking."), ("agent_message_chunk", "It is exact still."),
        ]
        is_told = take_up == "load_session"
        assert shown == (expected if is_told else []), shown
        assert len(client.of("tool_call")) == (4 if is_told else 0), client.updates


async def cancel(stage):
    """Cancelling ends the prompt with its stop reason, and the request at the model."""
    stage.model.script = in_turn(["It begins", Gate()])
    client = Client()
    async with stage.connect(client) as (connection, _):
        session = await begin(connection, stage)
        prompt = connection.prompt(session_id=session, prompt=[text_block("Go on.")])
        prompt = asyncio.ensure_future(prompt)
        await client.wait_for("agent_message_chunk")
        await connection.cancel(session_id=session)
        answer = await asyncio.wait_for(prompt, PATIENCE)
    assert answer.stop_reason == "cancelled", answer
    async with asyncio.timeout(PATIENCE):
        while not stage.model.n_cut:
            await asyncio.sleep(0.01)


async def cancel_at_once(stage):
    """A prompt that is cancelled in the same breath ends, in every mode, and nothing goes on."""
    stage.model.script = in_turn(["It begins", Gate()])
    stage.config.write_text(stage.config.read_text() + stage.config.read_text().replace("chat", "agent"))
    async with stage.connect(Client()) as (connection, _):
        for mode in ("ask", "review"):
            session = await begin(connection, stage)
            await connection.set_session_mode(session_id=session, mode_id=mode)
            prompt = connection.prompt(session_id=session, prompt=[text_block("Go on.")])
            prompt = asyncio.ensure_future(prompt)
            # Lets the prompt be written, and no more than that.
            await asyncio.sleep(0)
            await connection.cancel(session_id=session)
            answer = await asyncio.wait_for(prompt, PATIENCE)
            assert answer.stop_reason == "cancelled", (mode, answer)


async def cancel_twice(stage):
    """A task that is begun while the one before still says what it changed can be cancelled, too."""
    edit = call("edit", path="src/maths.py", oldString="3 * radius * radius", newString="math.pi * radius ** 2")
    stage.script([edit], [Gate()])
    client = Client()
    client.may_choose.clear()
    async with stage.connect(client) as (connection, _):
        session = await begin(connection, stage)
        await connection.set_session_mode(session_id=session, mode_id="review")
        prompts = []
        for n_asked in (2, 3):
            prompt = connection.prompt(session_id=session, prompt=[text_block("Make it exact.")])
            prompts.append(asyncio.ensure_future(prompt))
            await stage.until_asked(n_asked)
            if n_asked == 2:
                await connection.cancel(session_id=session)
        # The first ends once its hunks are decided.
        client.may_choose.set()
        answer = await asyncio.wait_for(prompts[0], PATIENCE)
        assert answer.stop_reason == "cancelled", answer
        await connection.cancel(session_id=session)
        answer = await asyncio.wait_for(prompts[1], PATIENCE)
        assert answer.stop_reason == "cancelled", answer


async def what_is_sent_along(stage):
    """Text that the client sends along is shown to the model as it is there, lines as they are named."""
    stage.model.script = in_turn(["Seen."])
    link = resource_link_block("maths.py", stage.file.as_uri() + "#L2:2")
    unsaved = EmbeddedResourceContentBlock(
        type="resource",
        resource=TextResourceContents(uri=stage.file.as_uri(), text="def unsaved():\n    pass\n"),
    )
    async with stage.connect(Client()) as (connection, _):
        session = await begin(connection, stage)
        await connection.prompt(session_id=session, prompt=[text_block("See: "), unsaved])
        asked = stage.model.asked[-1]["messages"][-1]["content"]
        assert "def unsaved():" in asked, asked
        session = await begin(connection, stage)
        await connection.prompt(session_id=session, prompt=[text_block("See: "), link])
        asked = stage.model.asked[-1]["messages"][-1]["content"]
        assert "src/maths.py, lines 2-2" in asked, asked
        key = "AKIA" + "IOSFODNN7EXAMPLE"
        secret = EmbeddedResourceContentBlock(
            type="resource", resource=TextResourceContents(uri=(stage.root / ".env").as_uri(), text="PLAIN=correct horse"))
        long = EmbeddedResourceContentBlock(
            type="resource",
            resource=TextResourceContents(uri=(stage.root / "long.py").as_uri(), text=f"k = '{key}'\n" + "long = 1\n" * 9_000))
        stage.script(FINISH)
        session = await begin(connection, stage)
        await connection.set_session_mode(session_id=session, mode_id="plan")
        await connection.prompt(session_id=session, prompt=[text_block("See: "), unsaved, link, secret, long])
        asked = stage.model.asked[-1]["messages"][1]["content"]
        mark = asked.split("<data-")[1].split(">")[0]
        assert f"<data-{mark}>\ndef unsaved():\n    pass\n</data-{mark}>" in asked, asked
        assert "- src/maths.py, lines 2-2\n" in asked and "- .env\n" in asked and "correct horse" not in asked, asked
        assert key not in asked and 1_000 < asked.count("long = 1\n") < 2_000, asked


async def failing_model(stage):
    """A model that is gone is an error that says so."""
    stage.config.write_text("[models.chat]\nurl = 'http://127.0.0.1:9'\nmodel = 'none'\n")
    async with stage.connect(Client()) as (connection, _):
        session = await begin(connection, stage)
        try:
            await connection.prompt(session_id=session, prompt=[text_block("Anyone?")])
            raise AssertionError("an answer without a model")
        except RequestError as error:
            assert "refused the connection" in str(error), error


async def search(stage):
    """Without a model, and by `/search`, search answers and says so."""
    stage.config.unlink()
    client = Client()
    async with stage.connect(client) as (connection, _):
        session = await begin(connection, stage)
        for prompt in ("area of a circle", "/search area of a circle"):
            answer = await connection.prompt(session_id=session, prompt=[text_block(prompt)])
            assert answer.stop_reason == "end_turn", answer
    assert client.said().count("not a model's answer") == 2, client.said()


async def task(stage):
    """In the mode of tasks, tools are run and shown, and the hunks at the end are asked about."""
    steps = [
        LOOKING,
        [call("edit", path="src/maths.py", oldString="3 * radius * radius", newString="math.pi * radius ** 2")],
        FINISH,
    ]
    stage.model.script = in_turn(*steps)
    client = Client()
    async with stage.connect(client) as (connection, _):
        session = await begin(connection, stage)
        await connection.set_session_mode(session_id=session, mode_id="review")
        answer = await connection.prompt(session_id=session, prompt=[text_block("Make it exact.")])
    assert answer.stop_reason == "end_turn", answer
    kinds = [call.kind for call in client.of("tool_call")]
    assert kinds == ["read", "edit", "think", "edit"], client.updates
    assert "It is exact now." in client.said(), client.said()
    assert len(client.questions) == 1 and BETTER in stage.file.read_text(), client.questions


async def unsaved_text(stage):
    """A task reads, searches and changes what is unsaved in the client, through the client."""
    other = stage.root / "src/other.py"
    other.write_text("OTHER = 1\n")
    unsaved = MATHS.replace("area_of_circle", "circle_area")
    steps = [
        [call("read_file", path="src/maths.py"), call("read_file", path="src/other.py")],
        [call("grep", pattern="def ")],
        [call("run", command="cat src/maths.py")],
        [
            call("edit", path="src/maths.py", oldString="3 * radius * radius", newString="math.pi * radius ** 2"),
            call("edit", path="src/other.py", oldString="1", newString="2"),
        ],
        FINISH,
    ]
    # Whether the client lets us write, and what is in its buffer and the other file then.
    for may_write, text, saved in ((False, unsaved, "1"), (True, unsaved.replace("    return 3 * radius * radius\n", BETTER), "2")):
        stage.script(*steps)
        client = Client()
        client.buffers, client.may_write = {str(stage.file): unsaved}, may_write
        n_asked = len(stage.model.asked)
        async with stage.connect(client) as (connection, _):
            session = await begin(connection, stage, client)
            await connection.set_session_mode(session_id=session, mode_id="review")
            await connection.prompt(session_id=session, prompt=[text_block("Make it exact.")])
        told = [m["content"] for body in stage.model.asked[n_asked:] for m in body["messages"] if m["role"] == "tool"]
        seen = [text for text in told if "circle_area" in text]
        assert len(set(seen)) == 3 and not any("area_of_circle" in text for text in told), told
        assert client.buffers == {str(stage.file): text}, client.buffers
        assert stage.file.read_text() == MATHS, "it was changed behind the client's back"
        assert other.read_text() == f"OTHER = {saved}\n", "all files change, or none"
        assert set(client.written) == {str(stage.file)}, client.written


async def unsaved_agents_file(stage):
    """What AGENTS.md says where it is not saved is told to tasks once that is known."""
    path = stage.root / "AGENTS.md"
    path.write_text("Use tabs.\n")
    client = Client()
    client.buffers = {str(path): "Use blanks.\n"}
    stage.script([call("read_file", path="AGENTS.md")], FINISH)
    async with stage.connect(client) as (connection, _):
        session = await begin(connection, stage, client)
        await connection.set_session_mode(session_id=session, mode_id="plan")
        for told in ("Use tabs.", "Use blanks."):
            n_asked = len(stage.model.asked)
            answer = await connection.prompt(session_id=session, prompt=[text_block("Look.")])
            assert answer.stop_reason == "end_turn", answer
            first = stage.model.asked[n_asked]["messages"][1]["content"]
            assert told in first, first


async def files_are_not_asked_for_in_bulk(stage):
    """Looking through many files asks a client for none of them."""
    for n in range(200):
        (stage.root / f"src/m{n}.py").write_text(f"def one_{n}(): pass\n")
    stage.script([call("grep", pattern="one_1")], LOOKING, LOOKING, FINISH)
    client = Client()
    client.buffers = {}
    async with stage.connect(client) as (connection, _):
        session = await begin(connection, stage, client)
        await connection.set_session_mode(session_id=session, mode_id="plan")
        await connection.prompt(session_id=session, prompt=[text_block("Look.")])
    assert client.read == [str(stage.file)] * 2, client.read


async def servers_of_the_client(stage):
    """MCP servers that the client names are tools of a task, each call asked for, none of them in sessions without."""
    log = stage.home / "mcp.log"
    stage.config.write_text(stage.config.read_text() + (
        "[mcp.servers.notes]\ncommand = 'no-such-program'\n"))
    (stage.config.parent / "policy.toml").write_text("[[tool]]\nname = 'mcp__notes__*'\ndecision = 'allow'\n")
    program = McpServerStdio(
        name="notes", command=sys.executable, args=[str(SUPPORT / "mcp_server.py")],
        env=[EnvVariable(name="LOG", value=str(log))])
    http = subprocess.Popen(
        [sys.executable, SUPPORT / "mcp_server.py", "--http"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        env={**stage.env(), "LOG": str(log)}, text=True)
    try:
        key = HttpHeader(name="Authorization", value="Bearer hush-hush-hush")
        address = HttpMcpServer(type="http", name="far away", url=http.stdout.readline().strip(), headers=[key])
        add = [call("mcp__notes-2__add", a=1, b=2)]
        stage.script(add, [call("mcp__far-away__add", a=20, b=22)], FINISH)
        client = Client()
        async with stage.connect(client) as (connection, _):
            session = await begin(connection, stage, mcp_servers=[program, address])
            await connection.set_session_mode(session_id=session, mode_id="review")
            await connection.prompt(session_id=session, prompt=[text_block("Add.")])
            asked = [tool_call.title for tool_call, _ in client.questions]
            assert len(asked) == 2 and "mcp__notes-2__add" in asked[0] and "mcp__far-away__add" in asked[1], (asked, client.updates)
            told = [m["content"] for m in stage.model.asked[-1]["messages"] if m["role"] == "tool"]
            assert "\n3\n" in told[0] and "\n42\n" in told[1], told
            assert "hush-hush" not in json.dumps(stage.model.asked), "the key was told"
            stage.script(add, FINISH)
            session = await begin(connection, stage)
            await connection.set_session_mode(session_id=session, mode_id="review")
            await connection.prompt(session_id=session, prompt=[text_block("Add.")])
            told = [m["content"] for m in stage.model.asked[-1]["messages"] if m["role"] == "tool"]
            assert "there is no tool" in told[0] and len(client.questions) == 2, told
            try:
                old = SseMcpServer(type="sse", name="old", url="http://127.0.0.1:9", headers=[])
                await begin(connection, stage, mcp_servers=[old])
                raise AssertionError("a server that cannot be spoken with was taken")
            except RequestError as error:
                assert error.code == -32602, error
    finally:
        http.kill()
        http.wait()


async def trust(stage):
    """A task is refused in a folder that is not trusted; a yes is asked for once."""
    cases = [(None, 1, False), ("reject_once", 1, False), ("allow_always", 1, True), ("reject_once", 0, True)]
    for chosen, n_questions, is_done in cases:
        client = Client()
        client.choose = lambda options: next((one for one in options if one.kind == chosen), None)
        async with stage.connect(client) as (connection, _):
            session = await begin(connection, stage)
            for mode, script in (("ask", in_turn(["It is there."])), ("plan", in_turn(FINISH))):
                stage.model.script = script
                await connection.set_session_mode(session_id=session, mode_id=mode)
                await connection.prompt(session_id=session, prompt=[text_block("Look.")])
                assert not client.questions, (mode, client.questions)
            await connection.set_session_mode(session_id=session, mode_id="review")
            n_asked = len(stage.model.asked)
            try:
                await connection.prompt(session_id=session, prompt=[text_block("Make it exact.")])
                assert is_done, chosen
            except RequestError as error:
                assert not is_done and "not trusted" in str(error), (chosen, error)
        assert len(client.questions) == n_questions, (chosen, client.questions)
        assert (len(stage.model.asked) > n_asked) == is_done, chosen


async def resume(stage):
    """A task whose process was killed, or whose client left, is told of in the next session, and goes on when asked to."""
    for leave in (lambda process: process.kill(), lambda process: process.stdin.close()):
        stage.script(LOOKING, [Gate()])
        n_asked = len(stage.model.asked)
        async with stage.connect(Client()) as (connection, process):
            session = await begin(connection, stage)
            await connection.set_session_mode(session_id=session, mode_id="review")
            prompting = asyncio.create_task(
                connection.prompt(session_id=session, prompt=[text_block("Make it exact.")]))
            async with asyncio.timeout(PATIENCE):
                while len(stage.model.asked) < n_asked + 2:
                    await asyncio.sleep(0)
            leave(process)
            await process.wait()
            prompting.cancel()
        stage.script(FINISH)
        n_asked = len(stage.model.asked)
        client = Client()
        async with stage.connect(client) as (connection, _):
            session = await begin(connection, stage)
            await client.wait_for("agent_message_chunk")
            assert "A task is not finished: Make it exact." in client.said(), client.said()
            assert len(stage.model.asked) == n_asked, "it was taken up unasked"
            answer = await connection.prompt(session_id=session, prompt=[text_block("/resume")])
            assert answer.stop_reason == "end_turn" and "It is exact now." in client.said(), client.said()
            client.updates.clear()
            await connection.new_session(cwd=str(stage.root), mcp_servers=[])
        assert "not finished" not in client.said(), client.said()


async def stop_left(stage):
    """A task that was left is ended when asked to, with its hunks to be decided, and not told of any more."""
    edit = call("edit", path="src/maths.py", oldString="3 * radius * radius", newString="math.pi * radius ** 2")
    stage.script([edit], [Gate()])
    async with stage.connect(Client()) as (connection, process):
        session = await begin(connection, stage)
        await connection.set_session_mode(session_id=session, mode_id="review")
        prompting = asyncio.create_task(
            connection.prompt(session_id=session, prompt=[text_block("Make it exact.")]))
        await stage.until_asked(2)
        process.kill()
        await process.wait()
        prompting.cancel()
    client = Client()
    async with stage.connect(client) as (connection, _):
        session = await begin(connection, stage)
        await client.wait_for("agent_message_chunk")
        assert "or end it with `/stop t_" in client.said(), client.said()
        answer = await connection.prompt(session_id=session, prompt=[text_block("/stop")])
        assert answer.stop_reason == "end_turn" and "The task is cancelled." in client.said(), client.said()
        assert len(client.questions) == 1 and BETTER in stage.file.read_text(), client.questions
        client.updates.clear()
        await connection.new_session(cwd=str(stage.root), mcp_servers=[])
    assert "not finished" not in client.said(), client.said()
    assert len(stage.model.asked) == 2, "it was taken up"


async def window_of_another_model(stage):
    """What a turn took is told of the window of the model that answered, not of the one that is out."""
    models = "".join(
        f"[models.{mode}]\nurl = 'http://127.0.0.1:9'\nmodel = 'out'\ncontextTokens = 8000\n"
        f"[[models.{mode}Fallbacks]]\nurl = '{stage.model.url}'\nmodel = 'script'\ncontextTokens = 50000\n"
        for mode in ("chat", "agent"))
    stage.config.write_text(models)
    stage.script(["It is there."], FINISH)
    client = Client()
    async with stage.connect(client) as (connection, _):
        session = await begin(connection, stage)
        for mode in ("ask", "plan"):
            await connection.set_session_mode(session_id=session, mode_id=mode)
            await connection.prompt(session_id=session, prompt=[text_block("Where is it?")])
    assert [one.size for one in client.of("usage_update")] == [50_000, 50_000], client.of("usage_update")


async def hostile(stage):
    """Messages that make no sense are answered with errors, and the next one is understood."""
    process = await asyncio.create_subprocess_exec(
        stage.program, "acp", env=stage.env(),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )
    cases = [
        (b"not json", -32700),
        (b'{"jsonrpc":"2.0","id":1}', -32600),
        (b'{"jsonrpc":"2.0","id":2,"method":"no/such"}', -32601),
        (b'{"jsonrpc":"2.0","id":3,"method":"session/prompt","params":{"sessionId":"x"}}', -32602),
        (b'{"jsonrpc":"2.0","id":4,"method":"session/new","params":{"cwd":"relative"}}', -32602),
        (b'{"jsonrpc":"2.0","id":5,"method":"session/new","params":null}', -32602),
        (b'{"jsonrpc":"2.0","id":99,"result":{}}\n[]', -32600),
    ]
    for line, code in cases:
        process.stdin.write(line + b"\n")
        answer = json.loads(await asyncio.wait_for(process.stdout.readline(), PATIENCE))
        assert answer["error"]["code"] == code, (line, answer)
    process.stdin.close()
    assert await asyncio.wait_for(process.wait(), PATIENCE) == 0


CHECKS = [
    answer_and_hunks, each_change, live_output, live_edit, resume_and_close, worktree, refused_hunks, load, load_of_tasks, cancel, cancel_at_once, cancel_twice, what_is_sent_along, failing_model, search,
    task, unsaved_text, unsaved_agents_file, files_are_not_asked_for_in_bulk, servers_of_the_client, trust, resume, stop_left, window_of_another_model, hostile,
]


def main():
    program = os.path.abspath(sys.argv[1])
    failed = 0
    checks = [check for check in CHECKS if check.__name__ in sys.argv[2:] or not sys.argv[2:]]
    for check in checks:
        try:
            stage = Stage(program)
            if check is not trust:
                stage.trust()
            asyncio.run(asyncio.wait_for(check(stage), 4 * PATIENCE))
            assert not stage.model.wrong, stage.model.wrong
            print(f"ok      {check.__name__}")
        except Exception:
            failed += 1
            print(f"FAILED  {check.__name__}: {check.__doc__}")
            traceback.print_exc()
        finally:
            stage.folder.cleanup()
    print(f"{len(checks) - failed} of {len(checks)} checks passed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
