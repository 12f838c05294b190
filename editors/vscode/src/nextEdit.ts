/**
 * The next edit: the server's proposal of what follows elsewhere from the last change.
 *
 * Asked for once the text has been left alone for a moment. It is drawn where it would be made,
 * and pointed to from the cursor's line when that is out of sight; one key goes there, and makes
 * it where the cursor is on its line already.
 *
 * Holds: a key in the editor only sets a timer; a proposal is dropped as soon as its text or the
 * cursor's changes.
 */
import * as vscode from 'vscode';

import type { InlineEdit } from './protocol';

type Request = (method: string, params: object) => Promise<unknown>;

/** How long text is left alone before the server is asked, in milliseconds. */
const PAUSE = 300;
/** Characters of the new text that a pointer shows. */
const SHORT = 40;
const CONTEXT = 'pairwright.nextEdit';

interface Proposal {
  document: vscode.TextDocument;
  version: number;
  range: vscode.Range;
  text: string;
  id: unknown;
}

export class NextEdits implements vscode.Disposable {
  private timer: NodeJS.Timeout | undefined;
  /** When the text was changed last, by the clock of `performance`. */
  private lastChange = 0;
  private asked = 0;
  private shown: Proposal | undefined;
  private readonly removed = vscode.window.createTextEditorDecorationType({
    backgroundColor: new vscode.ThemeColor('diffEditor.removedTextBackground'),
    textDecoration: 'line-through',
  });
  private readonly added = vscode.window.createTextEditorDecorationType({
    after: { backgroundColor: new vscode.ThemeColor('diffEditor.insertedTextBackground') },
  });
  private readonly pointer = vscode.window.createTextEditorDecorationType({
    after: { margin: '0 0 0 2em', color: new vscode.ThemeColor('editorCodeLens.foreground') },
  });
  /** The document of the active editor, which is dear to ask for with each key. */
  private active = vscode.window.activeTextEditor?.document;
  private readonly listeners = vscode.Disposable.from(
    vscode.workspace.onDidChangeTextDocument(({ document, contentChanges }) => {
      if (contentChanges.length > 0 && document === this.active) {
        this.changed();
      }
    }),
    vscode.window.onDidChangeActiveTextEditor((editor) => {
      this.active = editor?.document;
      this.draw();
    }),
    vscode.window.onDidChangeTextEditorVisibleRanges(() => this.draw()),
    vscode.window.onDidChangeTextEditorSelection(() => this.draw()),
  );

  constructor(private readonly request: Request) {}

  commands(): Record<string, () => unknown> {
    return {
      'pairwright.nextEdit': () => this.follow(),
      'pairwright.dismissNextEdit': () => this.dismiss(),
    };
  }

  dispose(): void {
    clearTimeout(this.timer);
    this.listeners.dispose();
    this.removed.dispose();
    this.added.dispose();
    this.pointer.dispose();
  }

  private changed(): void {
    this.asked += 1;
    this.hide();
    this.lastChange = performance.now();
    this.timer ??= setTimeout(() => this.askWhenLeft(), PAUSE);
  }

  /** Asks if the text was left alone for long enough, else looks again when it may have been: a timer
   * set anew with each key costs more than all else that is done for the key here. */
  private askWhenLeft(): void {
    const left = this.lastChange + PAUSE - performance.now();
    if (left > 1) {
      this.timer = setTimeout(() => this.askWhenLeft(), left);
      return;
    }
    this.timer = undefined;
    void this.ask();
  }

  /** Asks what follows from the last change. */
  private async ask(): Promise<void> {
    const editor = vscode.window.activeTextEditor;
    if (!editor) {
      return;
    }
    this.asked += 1;
    const { asked } = this;
    const { document, selection } = editor;
    const { line, character } = selection.active;
    const params = {
      textDocument: { uri: document.uri.toString(), version: document.version },
      position: { line, character },
    };
    let answer: { edits: InlineEdit[] };
    try {
      answer = (await this.request('textDocument/copilotInlineEdit', params)) as typeof answer;
    } catch {
      // No server, or one that does not know the document: nothing is proposed.
      return;
    }
    if (asked === this.asked) {
      this.hide();
      this.shown = proposal(answer.edits[0]);
      this.draw();
    }
  }

  private hide(): void {
    if (this.shown) {
      this.shown = undefined;
      this.draw();
    }
  }

  private isDrawn = false;

  private draw(): void {
    const { shown } = this;
    if (!shown && !this.isDrawn) {
      return;
    }
    const active = vscode.window.activeTextEditor;
    let isSeen = false;
    for (const editor of vscode.window.visibleTextEditors) {
      const isThere = editor.document === shown?.document;
      const ranges = shown && isThere ? [shown.range] : [];
      isSeen ||= isThere && editor.visibleRanges.some((range) => range.contains(shown.range));
      editor.setDecorations(this.removed, ranges);
      const after = { contentText: onOneLine(shown?.text ?? '') };
      editor.setDecorations(this.added, ranges.map((range) => ({ range, renderOptions: { after } })));
      editor.setDecorations(this.pointer, []);
    }
    if (shown && !isSeen && active) {
      const file = shown.document === active.document ? '' : `${vscode.workspace.asRelativePath(shown.document.uri)}, `;
      const new_ = shown.text === '' ? 'delete' : onOneLine(shown.text).slice(0, SHORT);
      const after = { contentText: `→ ${file}line ${shown.range.start.line + 1}: ${new_}` };
      const line = active.document.lineAt(active.selection.active.line);
      active.setDecorations(this.pointer, [{ range: line.range, renderOptions: { after } }]);
    }
    if (this.isDrawn !== (shown !== undefined)) {
      this.isDrawn = shown !== undefined;
      void vscode.commands.executeCommand('setContext', CONTEXT, this.isDrawn);
    }
  }

  /** Makes the proposal when the cursor is on its line, and goes there otherwise. */
  private async follow(): Promise<void> {
    const { shown } = this;
    const editor = vscode.window.activeTextEditor;
    if (!shown || shown.document.version !== shown.version) {
      this.hide();
      await this.ask();
      if (!this.shown) {
        vscode.window.setStatusBarMessage('Pairwright: nothing follows from the last change', 3000);
      }
      return;
    }
    const { document, range, text, id } = shown;
    if (editor?.document !== document || editor.selection.active.line !== range.start.line) {
      const selection = new vscode.Range(range.start, range.start);
      await vscode.window.showTextDocument(document, { selection });
      this.draw();
      return;
    }
    const isMade = await editor.edit((edit) => edit.replace(range, text));
    if (isMade) {
      const end = document.positionAt(document.offsetAt(range.start) + text.length);
      editor.selection = new vscode.Selection(end, end);
      await this.tell('pairwright.didAcceptEdit', id);
      clearTimeout(this.timer);
      this.timer = undefined;
      await this.ask();
    }
  }

  private async dismiss(): Promise<void> {
    const id = this.shown?.id;
    // An answer on its way is turned down too.
    this.asked += 1;
    clearTimeout(this.timer);
    this.timer = undefined;
    this.hide();
    if (id !== undefined) {
      await this.tell('pairwright.didRejectEdit', id);
    }
  }

  private async tell(command: string, id: unknown): Promise<void> {
    await this.request('workspace/executeCommand', { command, arguments: [id] });
  }
}

/** A decoration is one line. */
function onOneLine(text: string): string {
  return text.replace(/\r?\n/g, '⏎');
}

/** Reads an edit of the server; `undefined` when it is for a text that is not open as it was. */
function proposal(edit: InlineEdit | undefined): Proposal | undefined {
  const uri = edit && vscode.Uri.parse(edit.textDocument.uri).toString();
  const document = vscode.workspace.textDocuments.find((open) => open.uri.toString() === uri);
  if (!edit || document?.version !== edit.textDocument.version) {
    return undefined;
  }
  const { start, end } = edit.range;
  return {
    document,
    version: document.version,
    range: new vscode.Range(start.line, start.character, end.line, end.character),
    text: edit.text,
    id: edit.command.arguments[0],
  };
}
