/** What the server offers to do with the code at the cursor, as commands. */
import * as vscode from 'vscode';

import { linesOf } from './lines';

/** The kind of what the server offers, below which each has one of its own. */
const KIND = 'quickfix.pairwright';
type What = 'explain' | 'fix' | 'tests' | 'document';

/** The server's command that begins a task. */
const START = 'pairwright.task.start';

export function actions(): Record<string, () => unknown> {
  return {
    'pairwright.explainSelection': () => offered('explain'),
    'pairwright.fixHere': () => offered('fix'),
    'pairwright.writeTests': () => offered('tests'),
    'pairwright.document': () => offered('document'),
    'pairwright.editSelection': edit,
  };
}

/** Does what the server offers of a kind; of several, what the user chooses. */
async function offered(what: What): Promise<void> {
  const editor = vscode.window.activeTextEditor;
  if (!editor) {
    return;
  }
  const { document } = editor;
  // Without a selection the line is meant.
  const range = editor.selection.isEmpty ? document.lineAt(editor.selection.active.line).range : editor.selection;
  const found = await vscode.commands.executeCommand<vscode.CodeAction[]>(
    'vscode.executeCodeActionProvider',
    document.uri,
    range,
    `${KIND}.${what}`,
  );
  const labels = found.map((action) => ({ label: action.title, action }));
  const choice = labels.length > 1 ? await vscode.window.showQuickPick(labels) : labels[0];
  const command = choice?.action.command;
  if (command) {
    await vscode.commands.executeCommand(command.command, ...(command.arguments ?? []));
  } else if (found.length === 0) {
    const why = what === 'fix' ? 'Nothing is reported here' : 'This needs code';
    void vscode.window.showInformationMessage(
      `Pairwright: ${why}, or no model for tasks is set (\`models.agent.url\`).`,
    );
  }
}

/** Begins a task that does with the selected lines what the user says. */
async function edit(): Promise<void> {
  const editor = vscode.window.activeTextEditor;
  const instruction = await vscode.window.showInputBox({ title: 'Edit the selection', prompt: 'What is to be done?' });
  if (!editor || !instruction) {
    return;
  }
  const [first, last] = linesOf(editor.selection);
  const path = vscode.workspace.asRelativePath(editor.document.uri, false);
  await vscode.commands.executeCommand(START, {
    prompt: `${instruction}\n\nThis is about ${path}, lines ${first} to ${last}.`,
    textDocument: { uri: editor.document.uri.toString() },
  });
}
