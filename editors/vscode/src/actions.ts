/** What the server offers to do with the code at the cursor, as commands. */
import * as vscode from 'vscode';

/** Commands of the server that begin something. */
const EXPLAIN = 'pairwright.explainCode';
const START = 'pairwright.task.start';

export function actions(): Record<string, () => unknown> {
  return {
    'pairwright.explainSelection': () => offered('Explain'),
    'pairwright.fixHere': () => offered('Fix'),
    'pairwright.writeTests': () => offered('Write tests'),
    'pairwright.document': () => offered('Document'),
    'pairwright.editSelection': edit,
  };
}

/** Does what the server offers under a title that begins so; of several, what the user chooses. */
async function offered(title: string): Promise<void> {
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
    vscode.CodeActionKind.QuickFix.value,
  );
  const ours = found.filter(
    ({ title: its, command }) => its.startsWith(title) && [EXPLAIN, START].includes(command?.command ?? ''),
  );
  const labels = ours.map((action) => ({ label: action.title, action }));
  const choice = labels.length > 1 ? await vscode.window.showQuickPick(labels) : labels[0];
  const command = choice?.action.command;
  if (command) {
    await vscode.commands.executeCommand(command.command, ...(command.arguments ?? []));
  } else if (ours.length === 0) {
    const what = title === 'Fix' ? 'Nothing is reported here' : 'This needs code';
    void vscode.window.showInformationMessage(
      `Pairwright: ${what}, or no model for tasks is set (\`models.agent.url\`).`,
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
  const { start, end } = editor.selection;
  const path = vscode.workspace.asRelativePath(editor.document.uri, false);
  await vscode.commands.executeCommand(START, {
    prompt: `${instruction}\n\nThis is about ${path}, lines ${start.line + 1} to ${end.line + 1}.`,
    textDocument: { uri: editor.document.uri.toString() },
  });
}
