/** What goes over the wire beyond the types of the language client. */

/** Method and parameters of the standard request, which the language client knows too; here by
 * name, because the answers are kept as they came. */
export const INLINE_COMPLETION = 'textDocument/inlineCompletion';

/** What went wrong, in words for the user; a server's answer may come with a hint. */
export function messageOf(error: unknown): string {
  const { message, data } = Object(error) as { message?: string; data?: { hint?: string } };
  return [message ?? String(error), data?.hint].filter((part) => part !== undefined).join(' ');
}

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

/** An edit that `textDocument/copilotInlineEdit` proposes. */
export interface InlineEdit {
  text: string;
  textDocument: { uri: string; version: number };
  range: Range;
  /** Tells that it was made; its first argument is its id. */
  command: { command: string; arguments: unknown[] };
}

/** `didChangeStatus`. */
export interface Status {
  busy: boolean;
  kind: 'Normal' | 'Warning' | 'Error' | 'Inactive';
  message: string;
  /** What the task under way may do, the one that began last. */
  mode?: string;
  /** What separated the last command of a task from the machine. */
  sandbox?: string;
  /** Files that the index has yet to look at. */
  pendingFiles?: number;
}

/** `pairwright/event`: one thing that happened in a session. Kinds that are not shown are left out
 * here; `seq` counts all of them, from 1. */
export type Event = { session: string; turn: number; seq: number; ts: number } & EventKind;

export type EventKind =
  | { kind: 'intake'; prompt: string; mode: string; model: string; limits: Ceilings }
  | { kind: 'question'; text: string; shown?: Shown[] }
  | { kind: 'steer' | 'notice' | 'thought' | 'message'; text: string }
  | { kind: 'cited'; places: CitedPlace[] }
  | { kind: 'writing'; call: string; path?: string; text: string }
  | { kind: 'tool_call'; call: string; tool: string; arguments: string }
  | { kind: 'tool_started'; call: string }
  | { kind: 'tool_output'; call: string; text: string }
  | { kind: 'tool_result'; call: string; tool: string; outcome: Outcome; text: string; took: number; tier?: string }
  | { kind: 'diff'; files: DiffFile[]; proposal?: string; rollbackToken?: string }
  | { kind: 'plan'; items: PlanItem[] }
  | ({ kind: 'approval' } & Approval)
  | { kind: 'decided'; approval: string; decision: 'yes' | 'no'; scope?: Scope; text?: string; by?: string }
  | { kind: 'denied'; call: string; rule: string; what: string; why: string; instead?: string }
  | { kind: 'usage'; input: number; output: number; cost?: number; model: string; spent?: Spent }
  | { kind: 'compaction'; before: number; after: number }
  | { kind: 'mode'; mode: string; why: string }
  | { kind: 'status'; state: TaskState; why?: string }
  | { kind: 'done'; reason: string; summary?: string };

export type Outcome = 'done' | 'failed' | 'denied' | 'unknown';
export type Scope = 'once' | 'task' | 'repository';
export type TaskState =
  | 'planning'
  | 'running'
  | 'paused'
  | 'waiting_approval'
  | 'succeeded'
  | 'failed'
  | 'cancelled';

/** A piece of text that a model is shown with a question. */
export interface Shown {
  title: string;
  reason: string;
  place?: CitedPlace;
  isCut: boolean;
}

/** A place in a file; lines from 1. */
export interface CitedPlace {
  path: string;
  firstLine?: number;
  uri: string;
}

export interface DiffFile {
  path: string;
  added: number;
  removed: number;
  /** The hunks so far, of files that the last call of a task changed; cut where it is long. */
  patch?: string;
}

export interface PlanItem {
  text: string;
  state: 'pending' | 'in_progress' | 'done';
}

/** A question of a task, also the parameters of `pairwright/approval/request`. */
export interface Approval {
  approval: string;
  subject:
    | { type: 'command'; command: string; remembered: string }
    | { type: 'edit'; path: string }
    /** A tool of an MCP server; the arguments are JSON as the model wrote it. */
    | { type: 'tool'; tool: string; arguments: string }
    | { type: 'network'; host: string; command: string }
    | { type: 'budget'; what: string }
    | { type: 'question'; text: string; options: string[] };
  risk: 'low' | 'medium' | 'high';
  reason: string;
  scopes: Scope[];
}

/** The answer to `pairwright/approval/request`. */
export interface Decision {
  decision: 'yes' | 'no';
  scope?: Scope;
  text?: string;
}

/** What a task has taken; times in milliseconds, cost in US dollars. */
export interface Spent {
  steps: number;
  tokens: number;
  cost: number;
  wall: number;
}

/** What a task may take; `wall` in seconds. */
export interface Ceilings {
  steps: number;
  tokens: number;
  wall: number;
  cost?: number | null;
}

/** A session that is kept, as `pairwright/session/list` tells it. */
export interface Session {
  id: string;
  created: number;
  title: string;
  /** Of a task; null of a chat. */
  state: TaskState | null;
}

/** An edit that was made, as `pairwright/diff/history` tells it. */
export interface Edit {
  token: string;
  /** Milliseconds since 1970. */
  at: number;
  author: string;
  paths: string[];
  standing: 'applied' | 'rejected' | 'taken_back' | 'expired' | 'failed';
  /** What to roll back to take it back, or to do it again. */
  rollbackToken: string | null;
}

/** What the user points at in a question; lines from 1. */
export type Reference =
  | { type: 'file'; path: string; firstLine?: number; lastLine?: number }
  | { type: 'symbol'; name: string }
  | { type: 'diff' };

export type Mode = 'read-only' | 'plan' | 'review' | 'auto';

/** What `pairwright/diff/compare` answers: texts of a file, null where there is none. */
export interface Compared {
  before: string | null;
  after: string | null;
}
