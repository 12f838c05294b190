/** What a question comes with: what the user looks at, and what they point at. */
import * as vscode from 'vscode';

import { linesOf } from './lines';
import type { Reference } from './protocol';
import type { Given } from './sessions';
import type { Chip } from './view/messages';

/** The chip of what the user looks at. */
const LOOKED_AT = 'looked-at';
/** Of documents that the server is told of. */
const SCHEMES = ['file', 'untitled', 'vscode-remote'];
/** Milliseconds without a move of the cursor after which its selection is shown. */
const REST = 100;
/** Files offered at a time. */
const FILES = 5000;

interface Attached {
  chip: Chip;
  reference: Reference;
}

type What = 'looked-at' | 'file' | 'selection' | 'symbol' | 'diff';

export class Context implements vscode.Disposable {
  private attached: Attached[] = [];
  private looks = true;
  private nextId = 0;
  private told = '';
  private due: NodeJS.Timeout | undefined;
  private readonly listeners = vscode.Disposable.from(
    vscode.window.onDidChangeActiveTextEditor(() => this.tell()),
    vscode.window.onDidChangeTextEditorSelection(() => this.soon()),
  );

  constructor(private readonly show: (chips: Chip[]) => void) {}

  /** Shows the chips once the cursor rests: it moves with every key. */
  private soon(): void {
    clearTimeout(this.due);
    this.due = setTimeout(() => this.tell(), REST);
  }

  /** Shows the chips where they changed, or in any case. */
  tell(isNew = false): void {
    const looked = this.looks ? lookedAt() : undefined;
    const chips = [...(looked ? [looked] : []), ...this.attached.map(({ chip }) => chip)];
    const text = JSON.stringify(chips);
    if (isNew || text !== this.told) {
      this.told = text;
      this.show(chips);
    }
  }

  /** What goes with a question. */
  given(): Given {
    const contextRefs = this.attached.map(({ reference }) => reference);
    const editor = active();
    if (!editor) {
      return { contextRefs };
    }
    const textDocument = { uri: editor.document.uri.toString() };
    const looksAt = this.looks ? { textDocument, selection: plain(editor.selection) } : { withoutDocument: true };
    return { contextRefs, ...looksAt, ...(isPlaced(editor.document) && { place: textDocument }) };
  }

  remove(id: string): void {
    if (id === LOOKED_AT) {
      this.looks = false;
    }
    this.attached = this.attached.filter(({ chip }) => chip.id !== id);
    this.tell();
  }

  /** What was pointed at was for one question. */
  sent(): void {
    this.attached = [];
    this.tell();
  }

  clear(): void {
    this.looks = true;
    this.sent();
  }

  /** Has the user choose what to add. */
  async add(): Promise<void> {
    const choices: { label: string; what: What }[] = [
      ...(this.looks ? [] : [{ label: '$(eye) What I look at', what: 'looked-at' as const }]),
      { label: '$(file) A file…', what: 'file' },
      { label: '$(selection) The selection', what: 'selection' },
      { label: '$(symbol-method) A symbol…', what: 'symbol' },
      { label: '$(diff) The uncommitted changes', what: 'diff' },
    ];
    const choice = await vscode.window.showQuickPick(choices, { title: 'Add to the question' });
    switch (choice?.what) {
      case 'looked-at':
        this.looks = true;
        this.tell();
        break;
      case 'file':
        await this.addFile();
        break;
      case 'selection':
        this.addSelection();
        break;
      case 'symbol':
        await this.addSymbol();
        break;
      case 'diff':
        this.attach('uncommitted changes', 'the uncommitted changes', { type: 'diff' });
        break;
      case undefined:
    }
  }

  /** Keeps the selected lines with the next question, wherever the user goes. */
  addSelection(): void {
    const editor = active();
    if (editor) {
      const [firstLine, lastLine] = linesOf(editor.selection);
      const path = vscode.workspace.asRelativePath(editor.document.uri);
      const uri = editor.document.uri.toString();
      this.attach(`${base(path)}:${firstLine}-${lastLine}`, `lines ${firstLine} to ${lastLine} of ${path}`, {
        type: 'file',
        path: uri,
        firstLine,
        lastLine,
      });
    }
  }

  dispose(): void {
    clearTimeout(this.due);
    this.listeners.dispose();
  }

  private async addFile(): Promise<void> {
    const found = await vscode.workspace.findFiles('**/*', undefined, FILES);
    const choices = found
      .map((uri) => ({ label: vscode.workspace.asRelativePath(uri), uri: uri.toString() }))
      .sort((a, b) => (a.label < b.label ? -1 : 1));
    const choice = await vscode.window.showQuickPick(choices, { title: 'Add a file' });
    if (choice) {
      this.attach(base(choice.label), choice.label, { type: 'file', path: choice.uri });
    }
  }

  private async addSymbol(): Promise<void> {
    const editor = vscode.window.activeTextEditor;
    const word = editor?.document.getWordRangeAtPosition(editor.selection.active);
    const name = await vscode.window.showInputBox({
      title: 'Add a symbol',
      prompt: 'Name of a function, a type or a constant',
      value: word ? (editor?.document.getText(word) ?? '') : '',
    });
    if (name) {
      this.attach(name, `the definition of ${name}`, { type: 'symbol', name });
    }
  }

  private attach(label: string, title: string, reference: Reference): void {
    this.attached.push({ chip: { id: `attached-${this.nextId++}`, label, title }, reference });
    this.tell();
  }
}

/** The editor with a document that the server knows; the output of a program is none. */
function active(): vscode.TextEditor | undefined {
  const editor = vscode.window.activeTextEditor;
  return editor && SCHEMES.includes(editor.document.uri.scheme) ? editor : undefined;
}

/** Whether a document lies in a folder that is open. */
function isPlaced({ uri }: vscode.TextDocument): boolean {
  return vscode.workspace.getWorkspaceFolder(uri) !== undefined;
}

function lookedAt(): Chip | undefined {
  const editor = active();
  if (!editor) {
    return undefined;
  }
  const path = vscode.workspace.asRelativePath(editor.document.uri);
  const [first, last] = linesOf(editor.selection);
  const [label, title] = editor.selection.isEmpty
    ? [base(path), `${path}, which is open`]
    : [`${base(path)}:${first}-${last}`, `the selection in ${path}`];
  return { id: LOOKED_AT, label, title };
}

function plain({ start, end }: vscode.Selection): vscode.Range {
  return new vscode.Range(start, end);
}

function base(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}
