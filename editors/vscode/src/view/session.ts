/**
 * A session as it is shown: its events put together, in the order of what happened.
 *
 * Holds: what is kept is bounded, whatever a model or a command prints: the newest `MOST_ENTRIES`
 * entries, the first `MOST_SAID` characters of what a model says in one go, and the last
 * `MOST_OUTPUT` characters a command printed. Events are taken once each, in
 * the order of their `seq`. Nothing here knows the page.
 */
import type { Approval, Ceilings, CitedPlace, DiffFile, Event, Outcome, PlanItem, Shown, Spent, TaskState } from '../protocol';

export const MOST_ENTRIES = 1000;
/** Characters of one answer, thought or call; all of it is made into a page anew with each piece. */
export const MOST_SAID = 131_072;
/** Characters of what one command printed. */
export const MOST_OUTPUT = 16_384;

export type Content =
  | { type: 'said'; text: string; shown: Shown[] }
  /** `isWhole` once nothing more comes; `ended` is the reason of the turn's end, once it has one. */
  | { type: 'answer'; text: string; isWhole: boolean; ended?: string; hasProposal: boolean }
  | { type: 'thought' | 'notice'; text: string }
  | { type: 'cited'; places: CitedPlace[] }
  /** What the model writes into a file, until its call is whole. */
  | { type: 'writing'; call: string; path?: string; text: string }
  | { type: 'step'; call: string; tool: string; given: string; output: string; result?: StepResult }
  | { type: 'denied'; what: string; rule: string; why: string; instead?: string }
  | { type: 'approval'; asked: Approval; decided?: string }
  | { type: 'diff'; files: DiffFile[]; proposal?: string; rollbackToken?: string }
  | { type: 'ended'; reason: string; summary?: string };

export interface StepResult {
  outcome: Outcome;
  text: string;
  /** Milliseconds. */
  took: number;
  tier?: string;
}

/** One thing on screen. `version` changes with it. */
export interface Entry {
  id: number;
  version: number;
  turn: number;
  content: Content;
}

export class SessionView {
  entries: Entry[] = [];
  plan: PlanItem[] = [];
  state: TaskState | undefined;
  why: string | undefined;
  mode: string | undefined;
  ceilings: Ceilings | undefined;
  spent: Spent | undefined;
  model: string | undefined;
  /** US dollars of all turns, where the server knows them. */
  cost: number | undefined;
  /** Whether older entries were left out. */
  isCut = false;
  private last = 0;
  private nextId = 0;

  take(event: Event): void {
    if (event.seq <= this.last) {
      return;
    }
    this.last = event.seq;
    switch (event.kind) {
      case 'intake':
        this.mode = event.mode;
        this.model = event.model;
        this.ceilings = event.limits;
        this.add(event, { type: 'said', text: event.prompt, shown: [] });
        break;
      case 'question':
        this.add(event, { type: 'said', text: event.text, shown: event.shown ?? [] });
        break;
      case 'steer':
        this.add(event, { type: 'said', text: event.text, shown: [] });
        break;
      case 'message':
        this.goOn(event, 'answer', () => ({ type: 'answer', text: '', isWhole: false, hasProposal: false }));
        break;
      case 'thought':
        this.goOn(event, 'thought', () => ({ type: 'thought', text: '' }));
        break;
      case 'notice':
        this.add(event, { type: 'notice', text: event.text });
        break;
      case 'cited':
        this.add(event, { type: 'cited', places: event.places });
        break;
      case 'writing': {
        const { call, path, text } = event;
        const last = this.entries.at(-1);
        if (last?.content.type !== 'writing' || last.content.call !== call) {
          this.add(event, { type: 'writing', call, text: '', ...(path === undefined ? {} : { path }) });
        }
        this.change('writing', (writing) => writing.call === call, (writing) => {
          writing.text = (writing.text + text).slice(-MOST_OUTPUT);
        });
        break;
      }
      case 'tool_call':
        this.add(event, {
          type: 'step',
          call: event.call,
          tool: event.tool,
          given: event.arguments.slice(0, MOST_SAID),
          output: '',
        });
        break;
      case 'tool_output':
        this.change('step', ({ call }) => call === event.call, (step) => {
          step.output = (step.output + event.text).slice(-MOST_OUTPUT);
        });
        break;
      case 'tool_result': {
        const { outcome, text, took, tier } = event;
        this.change('step', ({ call }) => call === event.call, (step) => {
          step.result = { outcome, text: text.slice(-MOST_OUTPUT), took, ...(tier === undefined ? {} : { tier }) };
        });
        break;
      }
      case 'denied': {
        const { what, rule, why, instead } = event;
        this.add(event, { type: 'denied', what, rule, why, ...(instead === undefined ? {} : { instead }) });
        break;
      }
      case 'approval':
        this.add(event, { type: 'approval', asked: event });
        break;
      case 'decided':
        this.change('approval', ({ asked }) => asked.approval === event.approval, (approval) => {
          approval.decided = inWords(event);
        });
        break;
      case 'diff': {
        const { files, proposal, rollbackToken } = event;
        // What a task would change so far is told again with every edit, the hunks of what it changed.
        const before = this.entries.find(
          ({ turn, content }) =>
            turn === event.turn &&
            content.type === 'diff' &&
            content.proposal === undefined &&
            content.rollbackToken === undefined,
        );
        this.entries = this.entries.filter((entry) => entry !== before);
        const known = before?.content.type === 'diff' && proposal === undefined ? before.content.files : [];
        const patchOf = (path: string): string | undefined => known.find((file) => file.path === path)?.patch;
        const withPatch = (file: DiffFile): DiffFile => {
          const patch = file.patch ?? patchOf(file.path);
          return patch === undefined ? file : { ...file, patch };
        };
        this.add(event, {
          type: 'diff',
          files: files.map(withPatch),
          ...(proposal === undefined ? {} : { proposal }),
          ...(rollbackToken === undefined ? {} : { rollbackToken }),
        });
        if (proposal !== undefined) {
          this.ofTurn(event, (answer) => {
            answer.hasProposal = true;
          });
        }
        break;
      }
      case 'plan':
        this.plan = event.items;
        break;
      case 'mode':
        this.mode = event.mode;
        this.add(event, { type: 'notice', text: `${event.why}: ${event.mode}` });
        break;
      case 'usage':
        this.endWriting();
        this.model = event.model;
        this.spent = event.spent ?? this.spent;
        if (event.cost !== undefined) {
          this.cost = (this.cost ?? 0) + event.cost;
        }
        break;
      case 'compaction':
        this.add(event, { type: 'notice', text: 'The oldest messages are no longer told to the model.' });
        break;
      case 'status':
        this.endWriting();
        this.state = event.state;
        this.why = event.why;
        break;
      case 'done': {
        const { reason, summary } = event;
        this.ofTurn(event, (answer) => {
          answer.isWhole = true;
          answer.ended = reason;
        });
        // An answer says for itself that it is one.
        if (reason !== 'answered' && reason !== 'search') {
          this.add(event, { type: 'ended', reason, ...(summary === undefined ? {} : { summary }) });
        }
        break;
      }
      default:
      // Of a kind that is not shown, or not known yet.
    }
    if (this.entries.length > MOST_ENTRIES) {
      this.isCut = true;
      this.entries = this.entries.slice(-MOST_ENTRIES);
    }
  }

  /** What was written is a call now, or never will be. */
  private endWriting(): void {
    this.entries = this.entries.filter(({ content }) => content.type !== 'writing');
  }

  private add(event: Event, content: Content): void {
    const last = this.entries.at(-1);
    if (last?.content.type === 'answer' && !last.content.isWhole) {
      last.content.isWhole = true;
      last.version += 1;
    }
    this.entries.push({ id: this.nextId++, version: 0, turn: event.turn, content });
  }

  /** Puts a piece of running text behind the one before, or begins anew after something else. */
  private goOn(event: Event & { text: string }, type: 'answer' | 'thought', begin: () => Content): void {
    const last = this.entries.at(-1);
    if (last?.content.type !== type || last.turn !== event.turn) {
      this.add(event, begin());
    }
    const entry = this.entries.at(-1);
    if (entry?.content.type === type && entry.content.text.length < MOST_SAID) {
      entry.content.text = (entry.content.text + event.text).slice(0, MOST_SAID);
      entry.version += 1;
      // The page says where the rest is.
      this.isCut ||= entry.content.text.length === MOST_SAID;
    }
  }

  /** Changes all answers of the event's turn. */
  private ofTurn(event: Event, change: (answer: Extract<Content, { type: 'answer' }>) => void): void {
    for (const entry of this.entries) {
      if (entry.turn === event.turn && entry.content.type === 'answer') {
        change(entry.content);
        entry.version += 1;
      }
    }
  }

  /** Changes the newest entry of a type that is meant. */
  private change<Type extends Content['type']>(
    type: Type,
    isIt: (content: Extract<Content, { type: Type }>) => boolean,
    change: (content: Extract<Content, { type: Type }>) => void,
  ): void {
    const isMeant = ({ content }: Entry): boolean =>
      content.type === type && isIt(content as Extract<Content, { type: Type }>);
    const entry = this.entries.findLast(isMeant);
    if (entry) {
      change(entry.content as Extract<Content, { type: Type }>);
      entry.version += 1;
    }
  }
}

const HOLDS = { once: '', task: ', for this task', repository: ', for this folder' };

function inWords(decided: Extract<Event, { kind: 'decided' }>): string {
  if (decided.by === 'nobody') {
    return 'Nobody was there to be asked';
  }
  const who = decided.by === 'user' || decided.by === undefined ? 'You' : `The rules (${decided.by})`;
  const what = decided.decision === 'yes' ? 'allowed it' : 'said no';
  const text = decided.text === undefined ? '' : `: ${decided.text}`;
  return `${who} ${what}${HOLDS[decided.scope ?? 'once']}${text}`;
}
