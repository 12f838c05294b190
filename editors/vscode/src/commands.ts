/** What the palette, the keys and the status bar can do. */
import { execFile } from 'node:child_process';

import * as vscode from 'vscode';

import type { Ghost } from './ghost';
import type { Server } from './extension';

type Command = () => unknown;

/** How long the doctor may take, in milliseconds: it asks models. */
const PATIENCE = 120_000;

export function commands(server: Server, ghost: Ghost): Record<string, Command> {
  /** Has the editor take a part of the suggestion, and tells the server how much. */
  async function acceptPart(how: string): Promise<void> {
    const editor = vscode.window.activeTextEditor;
    const item = editor && ghost.currentAt(editor.document, editor.selection.active);
    await vscode.commands.executeCommand(how);
    if (editor && item) {
      const { document } = editor;
      const begin = document.offsetAt(new vscode.Position(item.range.start.line, item.range.start.character));
      const taken = document.offsetAt(editor.selection.active) - begin;
      if (taken < item.insertText.length) {
        ghost.partiallyAccepted(taken);
      }
    }
  }

  async function show(title: string, value: unknown): Promise<void> {
    await open('jsonc', `// ${title}\n${JSON.stringify(value, null, 2)}\n`);
  }

  async function open(language: string, content: string): Promise<void> {
    const document = await vscode.workspace.openTextDocument({ language, content });
    await vscode.window.showTextDocument(document, { preview: true });
  }

  async function snoozeFor(): Promise<void> {
    const choices = [5, 15, 30, 60, 240].map((minutes) => ({ label: `${minutes} minutes`, minutes }));
    const choice = await vscode.window.showQuickPick(choices, { title: 'No ghost text for' });
    if (choice) {
      await server.run('pairwright.snooze', [choice.minutes]);
    }
  }

  /** Switches ghost text for the language of the active editor, in the user's settings. */
  async function toggleLanguage(): Promise<void> {
    const language = vscode.window.activeTextEditor?.document.languageId;
    if (language === undefined) {
      return;
    }
    const configuration = vscode.workspace.getConfiguration('pairwright');
    const languages = { ...configuration.get<Record<string, boolean>>('complete.languages') };
    languages[language] = languages[language] === false;
    await configuration.update('complete.languages', languages, vscode.ConfigurationTarget.Global);
    const state = languages[language] ? 'on' : 'off';
    vscode.window.setStatusBarMessage(`Pairwright: ghost text is ${state} for ${language}`, 3000);
  }

  async function explain(): Promise<void> {
    const editor = vscode.window.activeTextEditor;
    if (!editor) {
      return;
    }
    const { line, character } = editor.selection.active;
    const sent = await server.request('pairwright/context/explain', {
      textDocument: { uri: editor.document.uri.toString() },
      position: { line, character },
    });
    await show('What is or would be sent at the cursor, and why', sent);
  }

  /** Has the doctor look from where the server does; a terminal of its own would close with it. */
  async function runDoctor(): Promise<void> {
    const { program } = server;
    if (program === undefined) {
      // Why there is none is what the doctor would have to say first.
      void server.tellFailure(server.status.message);
      return;
    }
    const uri = vscode.window.activeTextEditor?.document.uri;
    const folder = (uri && vscode.workspace.getWorkspaceFolder(uri)) ?? vscode.workspace.workspaceFolders?.[0];
    const said = new Promise<string>((resolve) => {
      const options = { timeout: PATIENCE, ...(folder && { cwd: folder.uri.fsPath }) };
      // It ends with a failure where it found one, and has said which.
      execFile(program, ['doctor'], options, (error, out, err) => resolve(out + err || String(error)));
    });
    const title = 'Pairwright: the doctor looks';
    const location = vscode.ProgressLocation.Notification;
    await vscode.window.withProgress({ location, title }, () => said);
    await open('plaintext', await said);
  }

  async function menu(): Promise<void> {
    const choices = [
      { label: '$(comment-discussion) Chat', command: 'pairwright.openChat' },
      { label: '$(checklist) New task', command: 'pairwright.newTask' },
      { label: '$(history) Chats and tasks', command: 'pairwright.chatHistory' },
      { label: '$(lightbulb) Suggest here', command: 'pairwright.suggest' },
      { label: '$(bell-slash) Snooze…', command: 'pairwright.snoozeFor' },
      { label: '$(bell) End snooze', command: 'pairwright.endSnooze' },
      { label: '$(symbol-keyword) Switch this language on or off', command: 'pairwright.toggleLanguage' },
      { label: '$(diff) Propose edits of the selection, or of what was copied', command: 'pairwright.proposeFromSelection' },
      { label: '$(discard) Take back the last edit', command: 'pairwright.rollBack' },
      { label: '$(versions) Edits there were', command: 'pairwright.editHistory' },
      { label: '$(eye) Show what is sent', command: 'pairwright.explain' },
      { label: '$(graph) Show metrics', command: 'pairwright.showNumbers' },
      { label: '$(pulse) Run doctor', command: 'pairwright.runDoctor' },
      { label: '$(output) Show log', command: 'pairwright.showLog' },
      { label: '$(debug-restart) Restart server', command: 'pairwright.restartServer' },
      { label: '$(gear) Settings', command: 'pairwright.openSettings' },
    ];
    const choice = await vscode.window.showQuickPick(choices, { title: server.status.message });
    if (choice) {
      await vscode.commands.executeCommand(choice.command);
    }
  }

  return {
    'pairwright.suggest': () => vscode.commands.executeCommand('editor.action.inlineSuggest.trigger'),
    'pairwright.acceptNextWord': () => acceptPart('editor.action.inlineSuggest.acceptNextWord'),
    'pairwright.acceptNextLine': () => acceptPart('editor.action.inlineSuggest.acceptNextLine'),
    'pairwright.dismiss': async () => {
      ghost.rejected();
      await vscode.commands.executeCommand('editor.action.inlineSuggest.hide');
    },
    'pairwright.snoozeFor': snoozeFor,
    'pairwright.endSnooze': () => server.run('pairwright.resume', []),
    'pairwright.toggleLanguage': toggleLanguage,
    'pairwright.explain': explain,
    'pairwright.showNumbers': async () =>
      show('Counts and times of this server', await server.request('pairwright/metrics/get', {})),
    'pairwright.learnAgain': () => server.run('pairwright.relearn', []),
    'pairwright.runDoctor': runDoctor,
    'pairwright.showLog': () => server.log.show(),
    'pairwright.restartServer': () => server.restart(),
    'pairwright.openSettings': () =>
      vscode.commands.executeCommand('workbench.action.openSettings', 'pairwright.'),
    'pairwright.menu': menu,
  };
}
