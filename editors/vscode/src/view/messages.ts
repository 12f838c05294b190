/** What the extension and its view tell each other. */
import type { Decision, Event, Mode } from '../protocol';

/** Something a question comes with, as the user sees it. */
export interface Chip {
  id: string;
  label: string;
  /** In full, for whoever hears it or points at it. */
  title: string;
}

/** How the session that is shown goes on. */
export interface Going {
  /** What the user says next begins a chat or a task, is asked in a chat or told to a task. */
  kind: 'new' | 'chat' | 'task';
  /** A turn or the task is under way in this server. */
  isLive: boolean;
  isServerUp: boolean;
  /** Questions of the task that can be answered now. */
  asks: string[];
}

export type ToView =
  /** Another session is shown, or the same from its beginning. */
  | { type: 'clear' }
  | { type: 'events'; events: Event[] }
  | { type: 'going'; going: Going }
  | { type: 'chips'; chips: Chip[] }
  /** Something could not be done; `text` is what the user had written. */
  | { type: 'failed'; message: string; text?: string }
  /** Puts the cursor where the user writes, in this mode and with this text if given. */
  | { type: 'write'; mode?: Mode | 'ask'; text?: string };

export type ToExtension =
  | { type: 'ready' }
  | { type: 'send'; text: string; mode: Mode | 'ask' }
  | { type: 'stop' | 'pause' | 'resume' | 'takeOver' | 'addContext' }
  | { type: 'hunks'; proposal: string }
  | { type: 'removeChip'; id: string }
  | { type: 'review'; answer: string }
  | { type: 'copy'; text: string }
  | { type: 'open'; to: string }
  | { type: 'rollBack'; token: string }
  | ({ type: 'decide'; approval: string } & Decision);
