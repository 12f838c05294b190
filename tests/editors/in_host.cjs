// Runs in VS Code's extension host, beside the extension: what its API tells and does.
//
// Fails at once where $PAIRWRIGHT_IN_HOST is 'fail', so that a test can see that it would be heard.
const assert = require('node:assert/strict');
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
};
