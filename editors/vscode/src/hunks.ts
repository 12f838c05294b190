/**
 * Review of edits: hunks that wait are shown where they are, decided, and taken back.
 *
 * Lines that would go are marked; lines that would come are behind the mark's hover and in the
 * code lens, because the editor lets no extension draw lines between others. The server knows the
 * hunks; what is here is its last answer, asked for again when hunks or a text that has some
 * change.
 */
import * as vscode from 'vscode';

import { Diffs, SCHEME, fileOf } from './diff';
import { LIST as HISTORY, type Turn, chooseEdit } from './history';
import {
  type Decided,
  type FileHunks,
  type Hunk,
  type Place,
  at,
  beyond,
  lineBefore,
  lineOf,
  pending,
  refusals,
  takenBackLast,
} from './pending';
import { type Edit, messageOf } from './protocol';

/** Sends a request to the server. */
type Request = (method: string, params: object) => Promise<unknown>;

const LIST = 'pairwright/diff/list';
/** Milliseconds without a key after which it is asked where hunks moved to. */
const REST = 200;
/** Characters of new text that stand behind a line. */
const SHORT = 80;

export class Hunks implements vscode.Disposable {
  private files: FileHunks[] = [];
  private asking: Promise<void> | undefined;
  private count = 0;
  private again = false;
  private jumping = Promise.resolve();
  /** What the keys were last told: the files that have hunks. */
  private told: string | undefined;
  /** Editors that hunks are drawn in. */
  private readonly drawn = new WeakSet<vscode.TextEditor>();
  private readonly diffs: Diffs;
  /** Set while the text of a file with hunks is newer than what is known of them. */
  private due: NodeJS.Timeout | undefined;
  private readonly removed = vscode.window.createTextEditorDecorationType({
    isWholeLine: true,
    backgroundColor: new vscode.ThemeColor('diffEditor.removedLineBackground'),
    overviewRulerColor: new vscode.ThemeColor('editorOverviewRuler.deletedForeground'),
    overviewRulerLane: vscode.OverviewRulerLane.Left,
  });
  private readonly added = vscode.window.createTextEditorDecorationType({
    isWholeLine: true,
    after: { margin: '0 0 0 2em' },
    overviewRulerColor: new vscode.ThemeColor('editorOverviewRuler.addedForeground'),
    overviewRulerLane: vscode.OverviewRulerLane.Left,
  });
  private readonly listeners = vscode.Disposable.from(
    vscode.window.onDidChangeVisibleTextEditors(() => this.show()),
    vscode.workspace.onDidChangeTextDocument(({ document, contentChanges }) => {
      if (contentChanges.length > 0 && this.of(document).length > 0) {
        clearTimeout(this.due);
        this.due = setTimeout(() => void this.refresh(), REST);
      }
    }),
  );

  constructor(private readonly request: Request) {
    this.diffs = new Diffs(request);
  }

  /** Asks the server what waits, and shows it. At most one question is under way. */
  refresh(): Promise<void> {
    clearTimeout(this.due);
    this.due = undefined;
    this.again = true;
    return (this.asking ??= this.ask());
  }

  /** Goes to the first hunk of a proposal. */
  async review(proposal: string): Promise<void> {
    await this.refresh();
    for (const { uri, hunks } of this.files) {
      const first = hunks.find((hunk) => hunk.proposal === proposal);
      if (first) {
        await this.goTo({ uri, line: lineOf(first) });
        return;
      }
    }
    vscode.window.setStatusBarMessage('Pairwright: all hunks of this are decided', 3000);
  }

  commands(): Record<string, () => unknown> {
    return {
      'pairwright.nextHunk': () => this.jump(1),
      'pairwright.previousHunk': () => this.jump(-1),
      'pairwright.acceptHunkHere': () => this.decideHere('accept'),
      'pairwright.rejectHunkHere': () => this.decideHere('reject'),
      'pairwright.acceptHunksOfFile': () => this.decideFile('accept'),
      'pairwright.rejectHunksOfFile': () => this.decideFile('reject'),
      'pairwright.compareHunks': () => this.compare(),
      'pairwright.acceptAllHunks': () => this.run('pairwright.acceptAll', []),
      'pairwright.rejectAllHunks': () => this.run('pairwright.rejectAll', []),
      'pairwright.rollBack': () => this.rollBack(),
      'pairwright.redoEdit': () => this.redo(),
      'pairwright.editHistory': () => chooseEdit(this.request, (token, what) => this.rollBack(token, what)),
      'pairwright.proposeFromSelection': () => this.propose(),
    };
  }

  dispose(): void {
    clearTimeout(this.due);
    this.listeners.dispose();
    this.diffs.dispose();
    this.removed.dispose();
    this.added.dispose();
  }

  private async ask(): Promise<void> {
    while (this.again) {
      this.again = false;
      try {
        const answer = (await this.request(LIST, {})) as { files: FileHunks[] };
        this.files = pending(answer.files.map(({ uri, hunks }) => ({ uri: named(uri), hunks })));
      } catch {
        // The server has ended, and its proposals with it.
        this.files = [];
      }
      await this.show();
      await this.diffs.refresh(new Set(this.files.map(({ uri }) => uri)));
    }
    this.asking = undefined;
  }

  private of(document: vscode.TextDocument): Hunk[] {
    const own = document.uri.toString();
    return this.files.find(({ uri }) => uri === own)?.hunks ?? [];
  }

  /** Where the cursor is, and hunks are as they are known for the text there. */
  private async here(): Promise<Place> {
    if (this.due !== undefined) {
      await this.refresh();
    }
    const editor = vscode.window.activeTextEditor;
    const line = editor?.selection.active.line ?? 0;
    if (editor?.document.uri.scheme !== SCHEME) {
      return { uri: uriOf(editor), line };
    }
    const uri = uriOf(editor);
    const hunks = this.files.find((file) => file.uri === uri)?.hunks ?? [];
    return { uri, line: lineBefore(hunks, line) ?? -1 };
  }

  private async show(): Promise<void> {
    for (const editor of vscode.window.visibleTextEditors) {
      const hunks = this.of(editor.document);
      if (hunks.length === 0 && !this.drawn.delete(editor)) {
        continue;
      }
      if (hunks.length > 0) {
        this.drawn.add(editor);
      }
      const last = editor.document.lineCount - 1;
      const line = (n: number): number => Math.min(n, last);
      editor.setDecorations(
        this.removed,
        hunks
          .filter(({ range }) => range.end.line > range.start.line)
          .map(({ range }) => new vscode.Range(line(range.start.line), 0, line(range.end.line - 1), 0)),
      );
      editor.setDecorations(
        this.added,
        hunks.map((hunk) => {
          const here = line(Math.max(hunk.range.end.line - 1, lineOf(hunk)));
          return { range: new vscode.Range(here, 0, here, 0), ...appearance(hunk) };
        }),
      );
    }
    const count = this.files.reduce((n, { hunks }) => n + hunks.length, 0);
    const isMore = count > this.count;
    this.count = count;
    const uris = this.files.map(({ uri }) => uri);
    if (this.told !== uris.join('\n')) {
      this.told = uris.join('\n');
      const paths = uris.map((uri) => vscode.Uri.parse(uri).fsPath);
      await vscode.commands.executeCommand('setContext', 'pairwright.hunks', count > 0);
      // In a remote window the editor's own names of files begin otherwise; their paths do not.
      await vscode.commands.executeCommand('setContext', 'pairwright.pathsWithHunks', paths);
    }
    // Said when the keys mean it.
    if (isMore) {
      const message = `Pairwright: ${count} hunks in ${this.files.length} files wait for a decision`;
      vscode.window.setStatusBarMessage(message, 10_000);
    }
  }

  /** Goes to the next hunk, or the one before, from where the last such key led: keys come faster than
   * the editor follows. */
  private jump(step: 1 | -1): Promise<void> {
    this.jumping = this.jumping.then(() => this.jumpOnce(step)).catch(() => undefined);
    return this.jumping;
  }

  private async jumpOnce(step: 1 | -1): Promise<void> {
    const place = await this.here();
    const target = beyond(this.files, place, step);
    if (!target) {
      vscode.window.setStatusBarMessage('Pairwright: no hunk waits for a decision', 3000);
      return;
    }
    await this.goTo(target);
  }

  private async goTo({ uri, line }: Place): Promise<void> {
    const selection = new vscode.Range(line, 0, line, 0);
    await vscode.window.showTextDocument(vscode.Uri.parse(uri), { selection });
  }

  private async decideHere(action: 'accept' | 'reject'): Promise<void> {
    const place = await this.here();
    const hunk = at(this.files, place);
    if (!hunk) {
      vscode.window.setStatusBarMessage('Pairwright: no hunk at the cursor', 3000);
      return;
    }
    await this.run('pairwright.diff.resolve', [{ hunks: [hunk.id], action }]);
  }

  private async decideFile(action: 'accept' | 'reject'): Promise<void> {
    const uri = uriOf(vscode.window.activeTextEditor);
    await this.run('pairwright.diff.resolve', [{ textDocument: { uri }, action }]);
  }

  /** Shows the file of the active editor beside what is proposed for it; where nothing is, the first
   * file that has hunks. */
  private async compare(): Promise<void> {
    const uri = uriOf(vscode.window.activeTextEditor);
    const file = this.files.find((file) => file.uri === uri) ?? this.files[0];
    if (!file) {
      vscode.window.setStatusBarMessage('Pairwright: no hunk waits for a decision', 3000);
      return;
    }
    await this.diffs.open(vscode.Uri.parse(file.uri));
  }

  /** Takes back an edit, the last one unless told which; or does one again that was taken back. */
  async rollBack(rollbackToken?: string, what: Turn = 'took back'): Promise<void> {
    const done = await this.run('pairwright.diff.rollback', [rollbackToken === undefined ? {} : { rollbackToken }]);
    if (done && done.paths.length > 0) {
      vscode.window.setStatusBarMessage(`Pairwright: ${what} the edit of ${done.paths.join(', ')}`, 5000);
    }
  }

  /** Does the edit again that was taken back last. */
  private async redo(): Promise<void> {
    try {
      const { edits } = (await this.request(HISTORY, {})) as { edits: Edit[] };
      const token = takenBackLast(edits);
      if (token === undefined) {
        vscode.window.setStatusBarMessage('Pairwright: no edit was taken back since the last one', 3000);
      } else {
        await this.rollBack(token, 'did again');
      }
    } catch (error) {
      warn(error);
    }
  }

  /** Proposes the edits of a model's answer: the selected text, else what was copied. */
  private async propose(): Promise<void> {
    const editor = vscode.window.activeTextEditor;
    const selected = editor?.document.getText(editor.selection) ?? '';
    const answer = selected === '' ? await vscode.env.clipboard.readText() : selected;
    const uri = uriOf(editor);
    const document = uri === '' ? {} : { textDocument: { uri } };
    await this.run('pairwright.diff.preview', [{ answer, ...document }]);
  }

  private async run(command: string, given: unknown[]): Promise<Decided | undefined> {
    try {
      const params = { command, arguments: given };
      const done = (await this.request('workspace/executeCommand', params)) as Partial<Decided>;
      const decided = { applied: [], paths: [], conflicts: [], ...done };
      refusals(decided).forEach((message) => {
        void vscode.window.showWarningMessage(`Pairwright: ${message}`);
      });
      return decided;
    } catch (error) {
      warn(error);
      return undefined;
    }
  }
}

function warn(error: unknown): void {
  void vscode.window.showWarningMessage(`Pairwright: ${messageOf(error)}`);
}

/** The file that an editor shows, or shows a proposal for. */
function uriOf(editor: vscode.TextEditor | undefined): string {
  return editor ? fileOf(editor.document.uri).toString() : '';
}

/** A document's name as the editor writes it; other programs escape less in one. */
function named(uri: string): string {
  return vscode.Uri.parse(uri).toString();
}

/** The new text in short behind the line, in full on hover. */
function appearance(hunk: Hunk): Pick<vscode.DecorationOptions, 'hoverMessage' | 'renderOptions'> {
  const [first = '', ...rest] = hunk.new.replace(/\n$/, '').split('\n');
  const more = rest.length > 0 ? ` … ${rest.length} more` : '';
  const text = hunk.new === '' ? `− ${hunk.author}` : `+ ${first.trim().slice(0, SHORT)}${more}`;
  const diff = [
    ...hunk.old.split('\n').slice(0, -1).map((line) => `-${line}`),
    ...hunk.new.split('\n').slice(0, -1).map((line) => `+${line}`),
  ];
  const edited = hunk.isEdited ? ', edited since' : '';
  const hover = new vscode.MarkdownString(`Proposed by `);
  hover.appendText(`${hunk.author}${edited}`).appendCodeblock(diff.join('\n'), 'diff');
  const color = new vscode.ThemeColor('gitDecoration.addedResourceForeground');
  return { hoverMessage: hover, renderOptions: { after: { contentText: text, color } } };
}
