/**
 * Ghost text: asks the server, keeps the answer while it is typed, and tells what became of it.
 *
 * The server is asked when the text has changed, which is before the editor asks for suggestions
 * (see `ahead.ts`); the editor's own question then takes up that answer.
 *
 * The editor's stable interface tells an extension of whole acceptances only (by `command`). That
 * a suggestion was shown is told when it is handed over; partial acceptance and rejection are
 * told by the commands of `commands.ts`, which stand on the editor's own keys.
 */
import * as vscode from 'vscode';
import type { LanguageClient } from 'vscode-languageclient/node';

import { Ahead, Question, cursorAfter } from './ahead';
import { type Answer, INLINE_COMPLETION, type Item } from './protocol';
import { type Place, Remembered, continues } from './remembered';

export class Ghost implements vscode.InlineCompletionItemProvider {
  private readonly remembered = new Remembered();
  private readonly ahead = new Ahead<Answer | null>();
  /** The suggestion of which the server was told last that it is shown. */
  private told: string | undefined;
  private current: Item | undefined;
  /** Where the editor is going to ask for suggestions by itself. */
  private typedIn: vscode.TextDocument | undefined;

  constructor(private readonly client: () => LanguageClient | undefined) {
    this.look();
  }

  /** Finds out where the editor asks; to be called when its active editor or its settings changed.
   * Settings take a quarter of a millisecond to read, which is too long for every key. */
  look(): void {
    const document = vscode.window.activeTextEditor?.document;
    const editor = vscode.workspace.getConfiguration('editor', document);
    this.typedIn = editor.get('inlineSuggest.enabled', true) ? document : undefined;
  }

  async provideInlineCompletionItems(
    document: vscode.TextDocument,
    position: vscode.Position,
    context: vscode.InlineCompletionContext,
    token: vscode.CancellationToken,
  ): Promise<vscode.InlineCompletionItem[]> {
    const client = this.client();
    if (!client?.isRunning()) {
      return [];
    }
    const asksForMore = context.triggerKind === vscode.InlineCompletionTriggerKind.Invoke;
    const isAsIs = !asksForMore && !context.selectedCompletionInfo;
    const known = isAsIs ? this.rememberedAt(document, position) : [];
    if (known.length > 0) {
      return this.hand(known, client);
    }
    const { version } = document;
    const asked = this.ahead.take(isAsIs ? stateOf(document, position) : undefined);
    const question = asked ?? this.ask(client, document, position, context);
    const cancelled = question.isAnswered ? undefined : token.onCancellationRequested(question.cancel);
    const answer = await question.answer;
    cancelled?.dispose();
    if (token.isCancellationRequested || document.version !== version) {
      return [];
    }
    const place = answer?.items.length ? placeOf(document, position) : undefined;
    if (!answer || !place) {
      this.remembered.forget();
      return this.hand([], client);
    }
    const items = answer.items.filter((item) => context.selectedCompletionInfo || continues(item, place));
    this.remembered.keep(place, context.selectedCompletionInfo ? [] : items);
    return this.hand(items, client);
  }

  /** Asks about a change that was typed, when the server has been told of it. */
  changed({ document, contentChanges, reason }: vscode.TextDocumentChangeEvent): void {
    if (contentChanges.length === 0) {
      return;
    }
    this.ahead.drop();
    const client = this.client();
    const cursor = reason === undefined ? cursorAfter(contentChanges) : undefined;
    if (!cursor || !client?.isRunning() || document !== this.typedIn) {
      return;
    }
    const position = new vscode.Position(cursor.line, cursor.character);
    if (this.rememberedAt(document, position).length > 0) {
      return;
    }
    const context = { triggerKind: vscode.InlineCompletionTriggerKind.Automatic, selectedCompletionInfo: undefined };
    this.ahead.ask(stateOf(document, position), () => this.ask(client, document, position, context));
  }

  /** Has the next question asked anew: settings or state of the server changed. */
  forget(): void {
    this.remembered.forget();
    this.ahead.drop();
  }

  /** Tells that the first `length` UTF-16 units of the current suggestion were taken. */
  partiallyAccepted(length: number): void {
    if (this.current) {
      void this.client()?.sendNotification('textDocument/didPartiallyAcceptCompletion', {
        item: this.current,
        acceptedLength: length,
      });
    }
  }

  /** Tells that the current suggestion is not wanted. */
  rejected(): void {
    const id = this.current?.command?.arguments?.[0];
    this.forget();
    this.current = undefined;
    if (id !== undefined) {
      void this.client()?.sendRequest('workspace/executeCommand', {
        command: 'pairwright.didRejectCompletion',
        arguments: [id],
      });
    }
  }

  /** The suggestion handed over last, if it still continues the text at the cursor. */
  currentAt(document: vscode.TextDocument, position: vscode.Position): Item | undefined {
    const item = this.current;
    return item && continues(item, placeOf(document, position)) ? item : undefined;
  }

  /** What is known to go on from here. The text is looked at only where anything is known. */
  private rememberedAt(document: vscode.TextDocument, position: vscode.Position): Item[] {
    return this.remembered.isEmpty ? [] : this.remembered.fitting(placeOf(document, position));
  }

  private ask(
    client: LanguageClient,
    document: vscode.TextDocument,
    position: vscode.Position,
    context: vscode.InlineCompletionContext,
  ): Question<Answer | null> {
    const selected = context.selectedCompletionInfo;
    const params = {
      textDocument: client.code2ProtocolConverter.asTextDocumentIdentifier(document),
      position: { line: position.line, character: position.character },
      context: {
        triggerKind: context.triggerKind === vscode.InlineCompletionTriggerKind.Invoke ? 1 : 2,
        ...(selected && { selectedCompletionInfo: { range: selected.range, text: selected.text } }),
      },
    };
    return new Question((token) =>
      client
        .sendRequest<Answer | null>(INLINE_COMPLETION, params, token)
        // Cancelled, or the server has just ended; its own messages tell of real trouble.
        .catch(() => null),
    );
  }

  private hand(items: Item[], client: LanguageClient): vscode.InlineCompletionItem[] {
    const [first] = items;
    this.current = first;
    if (first) {
      const id = String(first.command?.arguments?.[0]);
      if (this.told !== id) {
        this.told = id;
        void client.sendNotification('textDocument/didShowCompletion', { item: first });
      }
    }
    return items.map((item) => {
      const { start, end } = item.range;
      const range = new vscode.Range(start.line, start.character, end.line, end.character);
      return new vscode.InlineCompletionItem(item.insertText, range, item.command);
    });
  }
}

function placeOf(document: vscode.TextDocument, position: vscode.Position): Place {
  const { text } = document.lineAt(position.line);
  return {
    uri: document.uri.toString(),
    line: position.line,
    before: text.slice(0, position.character),
    after: text.slice(position.character),
  };
}

/** A name for text and cursor together. */
function stateOf(document: vscode.TextDocument, position: vscode.Position): string {
  return `${position.line}:${position.character} ${document.version} ${document.uri.toString()}`;
}
