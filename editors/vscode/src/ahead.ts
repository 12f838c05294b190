/**
 * The question that the editor is about to ask, asked before it does.
 *
 * VS Code waits 50 ms after a key before it asks a provider. What it will ask about is known when
 * the text has changed, so the server is asked then, and its answer is there, or nearer, when the
 * editor comes for it.
 *
 * Holds: at most one question is under way; a newer one, or dropping it, cancels it. An answer is
 * given for the very state it was asked about, and none of a question that was cancelled. Nothing here
 * knows the editor.
 */

/** A question under way, which is the token of its own cancellation: VS Code's tokens make an emitter
 * each, which is much for one question a key. */
export class Question<Answer> {
  isAnswered = false;
  isCancellationRequested = false;
  readonly answer: Promise<Answer>;
  private heard: ((event: unknown) => unknown) | undefined;

  constructor(ask: (token: Question<Answer>) => Promise<Answer>) {
    this.answer = ask(this).finally(() => (this.isAnswered = true));
  }

  /** Has the one who answers hear of it. */
  readonly onCancellationRequested = (heard: (event: unknown) => unknown): { dispose: () => void } => {
    this.heard = heard;
    return { dispose: () => (this.heard = undefined) };
  };

  readonly cancel = (): void => {
    this.isCancellationRequested = true;
    this.heard?.(undefined);
    this.heard = undefined;
  };
}

export class Ahead<Answer> {
  private state: string | undefined;
  private question: Question<Answer> | undefined;

  /** Asks about `state`, a name for text and cursor together. */
  ask(state: string, start: () => Question<Answer>): void {
    this.drop();
    this.state = state;
    this.question = start();
  }

  /** The question about `state`, if that is the one under way or answered. Another is dropped: the one
   * that is asked instead overtakes it at the server, which then answers it with nothing. */
  take(state: string | undefined): Question<Answer> | undefined {
    if (state === undefined || this.state !== state || this.question?.isCancellationRequested) {
      this.drop();
    }
    return this.question;
  }

  drop(): void {
    this.question?.cancel();
    this.question = undefined;
  }
}

/** A change of a document: what was inserted where something was removed. */
export interface Change {
  range: { start: { line: number; character: number } };
  text: string;
}

/** Characters of a line break with the indentation after it; what is longer was not typed. */
const LONGEST = 1000;

/** Where the cursor is after a change that was typed; undefined where that is not sure: several
 * cursors, pasted text, brackets that the editor closed by itself. */
export function cursorAfter(changes: readonly Change[]): { line: number; character: number } | undefined {
  const [change, ...others] = changes;
  if (!change || others.length > 0 || change.text.length > LONGEST) {
    return undefined;
  }
  const { start } = change.range;
  const lines = change.text.split(/\r\n|\r|\n/);
  const last = lines[lines.length - 1] ?? '';
  const typed = lines.length === 1 ? last.length <= 1 : lines.length === 2 && last.trim() === '';
  if (!typed) {
    return undefined;
  }
  return {
    line: start.line + lines.length - 1,
    character: lines.length === 1 ? start.character + last.length : last.length,
  };
}
