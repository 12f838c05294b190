// Runs in VS Code's extension host, beside the extension: what its API tells and does.
//
// Fails at once where $PAIRWRIGHT_IN_HOST is 'fail', so that a test can see that it would be heard.
const assert = require('node:assert/strict');
const { existsSync, readFileSync } = require('node:fs');
const path = require('node:path');
const vscode = require('vscode');

const PATIENCE = 20_000;

/** What `event()` gives as soon as that is true. */
async function until(event, what) {
  const deadline = Date.now() + PATIENCE;
  for (;;) {
    const value = await event();
    if (value) {
      return value;
    }
    assert.ok(Date.now() < deadline, `not in time: ${what}`);
    await new Promise((done) => setTimeout(done, 10));
  }
}

/** Entries of what went over the wire so far; `vscode.py` has it written beside the workspace. */
function wire() {
  const [folder] = vscode.workspace.workspaceFolders;
  const log = path.join(folder.uri.fsPath, '../wire.jsonl');
  // What follows the last line's end is half written.
  const lines = existsSync(log) ? readFileSync(log, 'utf8').split('\n').slice(0, -1) : [];
  return lines.map((line) => JSON.parse(line));
}

/** Parameters of what the editor sent. */
function sent(method) {
  const ours = wire().filter(({ from, message }) => from === 'editor' && message.method === method);
  return ours.map(({ message }) => message.params);
}

function isAlive(pid) {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

const run = (command, ...given) => vscode.commands.executeCommand(command, ...given);
const type = (text) => run('type', { text });

/** Leaves the file empty. */
async function clear(editor) {
  const { document } = editor;
  // One of a file that another took the place of is another one.
  const shown = await vscode.window.showTextDocument(document);
  await shown.edit((edit) => edit.delete(new vscode.Range(0, 0, document.lineCount, 0)));
}

const INLINE = 'textDocument/inlineCompletion';
const INVOKED = 1;

/** What the server answered where it was asked for on demand. */
function answerOnDemand() {
  const asked = wire().find(({ from, message }) => {
    return from === 'editor' && message.method === INLINE && message.params.context.triggerKind === INVOKED;
  });
  const answered = ({ from, message }) => from === 'server' && !message.method && message.id === asked?.message.id;
  return wire().find(answered)?.message.result;
}

async function takesALine(editor) {
  await clear(editor);
  await type('f() {');
  await until(async () => {
    await run('pairwright.acceptNextLine');
    return editor.document.lineCount === 2;
  }, 'a line is accepted');
  const told = await until(() => sent('textDocument/didPartiallyAcceptCompletion').at(-1), 'the server is told');
  assert.equal(told.acceptedLength, editor.document.getText().length);
}

async function cycles(editor) {
  await clear(editor);
  const n = sent('textDocument/didShowCompletion').length;
  await type('x~');
  const first = await until(() => sent('textDocument/didShowCompletion').slice(n).at(-1), 'one is shown');
  await run('editor.action.inlineSuggest.showNext');
  const { items } = await until(answerOnDemand, 'others are told');
  assert.ok(items.length > 2, 'there are more');
  // The first may or may not have been heard after the answer.
  await run('editor.action.inlineSuggest.showNext');
  await run('editor.action.inlineSuggest.commit');
  await until(() => /^x~option\d+$/.test(editor.document.getText()), 'another is taken');
  assert.notEqual(editor.document.getText(), first.item.insertText);
}

async function suggestsOnDemand(editor) {
  await clear(editor);
  const n = sent(INLINE).length;
  await run('pairwright.suggest');
  await until(() => sent(INLINE).slice(n).some(({ context }) => context.triggerKind === INVOKED), 'it is asked for');
}

async function snoozes() {
  const commands = () => sent('workspace/executeCommand').map((params) => params.command);
  const done = run('pairwright.snoozeFor');
  await until(async () => {
    await run('workbench.action.acceptSelectedQuickOpenItem');
    return commands().includes('pairwright.snooze');
  }, 'it is snoozed');
  await done;
  assert.deepEqual(sent('workspace/executeCommand').at(-1).arguments, [5]);
  await run('pairwright.endSnooze');
  assert.ok(commands().includes('pairwright.resume'), 'it is ended');
}

async function shows(editor) {
  for (const [command, ...parts] of [
    ['pairwright.explain', 'What is or would be sent', '"maxLines"'],
    ['pairwright.showNumbers', 'Counts and times', '"acceptRate"'],
    ['pairwright.runDoctor', 'Pairwright', 'Settings'],
  ]) {
    await vscode.window.showTextDocument(editor.document);
    await run(command);
    const text = vscode.window.activeTextEditor.document.getText();
    parts.forEach((part) => assert.ok(text.includes(part), `${command} shows ${part}: ${text}`));
  }
  await vscode.window.showTextDocument(editor.document);
}

/** Turning an edit down while the next is about to be asked for does not end all asking. */
async function asksForNextEdits(editor) {
  await clear(editor);
  const asked = () => sent('textDocument/copilotInlineEdit').length;
  await type('x');
  await run('pairwright.dismissNextEdit');
  const n = asked();
  await type('y');
  await until(() => asked() > n, 'the next edit is asked for');
}

/** However often and fast it is asked for, one server lives, and answers. */
async function restarts() {
  const pids = () => wire().flatMap(({ pid }) => pid ?? []);
  const living = () => pids().filter(isAlive);
  for (const isStarting of [false, true]) {
    const n = pids().length;
    const first = run('pairwright.restartServer');
    if (isStarting) {
      await until(() => pids().length > n, 'a server that is starting');
    }
    await Promise.all([first, run('pairwright.restartServer'), run('pairwright.restartServer')]);
    await until(() => pids().length > n, 'another server');
    await until(() => run('pairwright.showStatus').then(({ message }) => message, () => undefined), 'it answers');
    await until(() => living().length === 1, 'one server lives');
    assert.equal(living()[0], pids().at(-1));
  }
}

exports.run = async () => {
  assert.notEqual(process.env.PAIRWRIGHT_IN_HOST, 'fail', 'told to fail');
  const extension = vscode.extensions.getExtension('pairwright.pairwright');
  assert.ok(extension, 'the extension is there');
  await extension.activate();
  const { contributes } = extension.packageJSON;

  const known = new Set(await vscode.commands.getCommands(true));
  for (const { command } of contributes.commands) {
    assert.ok(known.has(command), `${command} is registered`);
  }
  for (const { command } of contributes.keybindings) {
    assert.ok(known.has(command), `${command} of a key is registered`);
  }
  const settings = vscode.workspace.getConfiguration('pairwright');
  for (const name of Object.keys(contributes.configuration.properties)) {
    assert.ok(settings.inspect(name.slice('pairwright.'.length)), `${name} is a setting`);
  }

  const [folder] = vscode.workspace.workspaceFolders;
  const file = vscode.Uri.joinPath(folder.uri, 'a.js');
  const document = await vscode.workspace.openTextDocument(file);
  const editor = await vscode.window.showTextDocument(document);
  await until(() => vscode.window.activeTextEditor === editor, 'the file is shown');
  // The server may still be starting; each key asks it again.
  await until(async () => {
    await vscode.commands.executeCommand('type', { text: '=' });
    await new Promise((done) => setTimeout(done, 500));
    await vscode.commands.executeCommand('editor.action.inlineSuggest.commit');
    return document.getText().endsWith('=1 + 2;');
  }, 'a suggestion is committed');
  await vscode.commands.executeCommand('undo');
  assert.ok(document.getText().endsWith('='), 'one undo takes it back');

  for (const work of [takesALine, cycles, suggestsOnDemand, snoozes, shows, asksForNextEdits, restarts]) {
    try {
      await work(editor);
    } catch (error) {
      error.message = `${work.name}: ${error.message}`;
      throw error;
    }
  }
};
