/**
 * The editor's own diff view of hunks: a file beside what its undecided hunks would make of it.
 *
 * Holds: the left side is the file itself, the right side a document of ours that nobody can change
 * and that the server makes. A view is brought up to date when hunks change or move, and closed when
 * none of its file waits.
 */
import * as vscode from 'vscode';

import type { Compared } from './protocol';

/** Of documents that show what is proposed. */
export const SCHEME = 'pairwright-proposed';
/** Marks the empty document that stands for a file that is not there yet. */
const NOTHING = 'nothing';

const COMPARE = 'pairwright/diff/compare';

export class Diffs implements vscode.TextDocumentContentProvider, vscode.Disposable {
  private readonly moved = new vscode.EventEmitter<vscode.Uri>();
  private readonly registered = vscode.workspace.registerTextDocumentContentProvider(SCHEME, this);
  readonly onDidChange = this.moved.event;

  constructor(private readonly request: (method: string, params: object) => Promise<unknown>) {}

  dispose(): void {
    this.registered.dispose();
    this.moved.dispose();
  }

  /** Shows the hunks of a file side by side. */
  async open(file: vscode.Uri): Promise<void> {
    const { before } = await this.compare(file);
    const left = before === null ? proposed(file, NOTHING) : file;
    const title = `${vscode.workspace.asRelativePath(file)} ↔ proposed`;
    await vscode.commands.executeCommand('vscode.diff', left, proposed(file), title, { preview: true });
  }

  async provideTextDocumentContent(uri: vscode.Uri): Promise<string> {
    return uri.fragment === NOTHING ? '' : ((await this.compare(fileOf(uri))).after ?? '');
  }

  /** Brings what is shown up to date; `files` are the uris of those that have hunks. */
  async refresh(files: ReadonlySet<string>): Promise<void> {
    for (const { uri } of vscode.workspace.textDocuments) {
      if (uri.scheme === SCHEME && uri.fragment !== NOTHING && files.has(fileOf(uri).toString())) {
        this.moved.fire(uri);
      }
    }
    const over = vscode.window.tabGroups.all
      .flatMap(({ tabs }) => tabs)
      .filter(({ input }) => {
        const right = input instanceof vscode.TabInputTextDiff ? input.modified : undefined;
        return right?.scheme === SCHEME && !files.has(fileOf(right).toString());
      });
    if (over.length > 0) {
      await vscode.window.tabGroups.close(over);
    }
  }

  private async compare(file: vscode.Uri): Promise<Compared> {
    return (await this.request(COMPARE, { textDocument: { uri: file.toString() } })) as Compared;
  }
}

/** The document that shows what is proposed for `file`; of the same path, so of the same language. */
function proposed(file: vscode.Uri, fragment = ''): vscode.Uri {
  return file.with({ scheme: SCHEME, query: file.toString(), fragment });
}

/** The file that a document is about: itself, or the one that something is proposed for. */
export function fileOf(uri: vscode.Uri): vscode.Uri {
  return uri.scheme === SCHEME ? vscode.Uri.parse(uri.query) : uri;
}
