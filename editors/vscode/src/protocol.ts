/** What goes over the wire beyond the types of the language client. */

/** Method and parameters of the standard request, which the language client knows too; here by
 * name, because the answers are kept as they came. */
export const INLINE_COMPLETION = 'textDocument/inlineCompletion';

export interface Position {
  line: number;
  character: number;
}

export interface Range {
  start: Position;
  end: Position;
}

/** A suggestion as the server sends it. `range` begins at the start of the cursor's line, and
 * `insertText` with what stands there. */
export interface Item {
  insertText: string;
  range: Range;
  command?: { title: string; command: string; arguments?: unknown[] };
}

export interface Answer {
  items: Item[];
}

/** `didChangeStatus`. */
export interface Status {
  busy: boolean;
  kind: 'Normal' | 'Warning' | 'Error' | 'Inactive';
  message: string;
}
