/**
 * The session that is shown, and the questions of tasks that wait for the user.
 *
 * Holds: events are handed on in the order of their `seq`, each once; where one is missing, because
 * the view or the server was away, it is read from the server's record. Nothing here knows the
 * editor.
 */
import type { Approval, Decision, Event, Mode, Reference, Session, TaskState } from './protocol';
import type { Going } from './view/messages';

/** Events read at a time; the server's own limit. */
const PAGE = 1000;

type Request = (method: string, params: object) => Promise<unknown>;

/** Who shows the session. */
export interface Face {
  clear(): void;
  events(events: Event[]): void;
  going(going: Going): void;
  /** Another session is shown from now on. */
  chosen(session: string | undefined): void;
}

/** What a question comes with. */
export interface Given {
  contextRefs: Reference[];
  /** What the user looks at. */
  textDocument?: { uri: string };
  selection?: unknown;
  /** What the user looks at is to be left out. */
  withoutDocument?: boolean;
  /** A document of the folder that is meant. */
  place?: { uri: string };
}

export interface Said extends Given {
  text: string;
  mode: Mode | 'ask';
}

/** What a task leaves that is over. */
interface Left {
  /** None where it left no hunks. */
  proposal: string | undefined;
}

interface Asked {
  task: string;
  answer: (decision: Decision | null) => void;
}

export class Sessions {
  private shown: string | undefined;
  private isTask = false;
  private last = 0;
  /** Of the task that is shown, as far as its events are handed on. */
  private proposal: string | undefined;
  private isDone = false;
  private isUp = false;
  private isReading = false;
  private again = false;
  /** Counts how often the face began anew; what was read for an earlier one is not for it. */
  private n = 0;
  private readonly live = new Set<string>();
  private readonly asks = new Map<string, Asked>();
  /** Who waits for the changes of a task that is taken over; told nothing where nothing is known. */
  private readonly taken = new Map<string, (left: Left | undefined) => void>();

  constructor(
    private readonly request: Request,
    private readonly face: Face,
  ) {}

  get current(): string | undefined {
    return this.shown;
  }

  /** The server is there, or gone: then nothing goes on, and nobody waits for an answer. */
  async serverIs(isUp: boolean): Promise<void> {
    this.isUp = isUp;
    if (!isUp) {
      this.live.clear();
      this.asks.clear();
      [...this.taken.keys()].forEach((task) => this.handOver(task, undefined));
    }
    this.tellGoing();
    if (isUp) {
      await this.catchUp();
    }
  }

  /** Shows a session from its beginning, or none. */
  async show(session: string | undefined): Promise<void> {
    this.choose(session, false);
    await this.catchUp();
  }

  /** Tells a face that has forgotten everything, from the beginning. */
  async retell(): Promise<void> {
    this.begin();
    this.face.clear();
    this.tellGoing();
    await this.catchUp();
  }

  /** Takes in what the server tells as it happens. */
  async take(event: Event): Promise<void> {
    if (event.kind === 'diff' && event.proposal) {
      this.handOver(event.session, { proposal: event.proposal });
    }
    if (event.kind === 'done') {
      this.handOver(event.session, { proposal: undefined });
      this.live.delete(event.session);
      this.forget(event.session);
      this.tellGoing();
    } else if (event.kind === 'status') {
      this.runs(event.session, event.state);
      this.tellGoing();
    } else if (event.kind === 'decided') {
      // Elsewhere, if it still waits here.
      this.settle(event.approval, null);
    }
    if (event.session !== this.shown) {
      return;
    }
    if (event.seq === this.last + 1 && !this.isReading) {
      this.hand([event]);
    } else if (event.seq > this.last) {
      await this.catchUp();
    }
  }

  /** Asks, begins a task, or tells the task that is shown something. */
  async say(said: Said): Promise<void> {
    const { text, mode, place } = said;
    if (this.shown !== undefined && this.isTask) {
      await this.request('pairwright/task/steer', { task: this.shown, text });
    } else if (this.shown === undefined && mode !== 'ask') {
      const params = { prompt: text, mode, ...(place && { textDocument: place }) };
      const { task } = (await this.request('pairwright/task/start', params)) as { task: string };
      await this.begun(task, true);
    } else {
      await this.ask(said);
    }
  }

  private async ask({ text, mode: _, place, ...given }: Said): Promise<void> {
    if (this.shown === undefined) {
      const { session } = (await this.request('pairwright/session/new', {
        ...(place && { textDocument: place }),
      })) as { session: string };
      this.choose(session, false);
    }
    const session = this.shown ?? '';
    this.live.add(session);
    this.tellGoing();
    try {
      await this.request('pairwright/chat/send', { session, text, ...given });
    } catch (error) {
      this.live.delete(session);
      this.tellGoing();
      throw error;
    }
  }

  /** Shows what was begun elsewhere: by a code action, by a command. */
  async begun(session: string, isTask: boolean): Promise<void> {
    this.live.add(session);
    this.choose(session, isTask);
    await this.catchUp();
  }

  async stop(): Promise<void> {
    const session = this.shown;
    if (session !== undefined && this.isTask) {
      await this.request('pairwright/task/stop', { task: session });
    } else if (session !== undefined) {
      await this.request('pairwright/turn/cancel', { session });
    }
  }

  /** Ends the task that is shown, unless it is over, and resolves with what it left; with nothing
   * where the server ends first, or it is taken over once more. */
  async takeOver(): Promise<Left | undefined> {
    const task = this.shown;
    if (task === undefined || !this.isTask) {
      throw new Error('no task is shown');
    }
    if (this.isDone) {
      return { proposal: this.proposal };
    }
    this.handOver(task, undefined);
    const over = new Promise<Left | undefined>((resolve) => this.taken.set(task, resolve));
    try {
      await this.request('pairwright/task/stop', { task });
    } catch (error) {
      this.taken.delete(task);
      throw error;
    }
    return over;
  }

  async pause(): Promise<void> {
    await this.request('pairwright/task/pause', { task: this.shown });
  }

  async resume(): Promise<void> {
    const session = this.shown;
    if (session !== undefined) {
      await this.request('pairwright/task/resume', { task: session });
      this.live.add(session);
      this.tellGoing();
      await this.catchUp();
    }
  }

  /** All that are kept, newest first. */
  async list(): Promise<Session[]> {
    const { sessions } = (await this.request('pairwright/session/list', {})) as { sessions: Session[] };
    return sessions;
  }

  /** Stops and forgets a session; what is kept of it stays. */
  async close(session: string): Promise<void> {
    await this.request('pairwright/session/close', { session });
    if (session === this.shown) {
      await this.show(undefined);
    }
  }

  /** A question of a task; resolves with what the user decides. */
  async asked(task: string, { approval }: Approval): Promise<Decision | null> {
    const decided = new Promise<Decision | null>((answer) => this.asks.set(approval, { task, answer }));
    this.tellGoing();
    return decided;
  }

  decide(approval: string, decision: Decision): void {
    this.settle(approval, decision);
  }

  private settle(approval: string, decision: Decision | null): void {
    const asked = this.asks.get(approval);
    this.asks.delete(approval);
    asked?.answer(decision);
    this.tellGoing();
  }

  /** How many questions wait. */
  get waiting(): number {
    return this.asks.size;
  }

  private choose(session: string | undefined, isTask: boolean): void {
    this.shown = session;
    this.isTask = isTask;
    this.begin();
    this.face.chosen(session);
    this.face.clear();
    this.tellGoing();
  }

  /** Nobody waits for what a task asked that is over. */
  private forget(task: string): void {
    for (const [approval, asked] of this.asks) {
      if (asked.task === task) {
        this.asks.delete(approval);
        asked.answer(null);
      }
    }
  }

  private handOver(task: string, left: Left | undefined): void {
    this.taken.get(task)?.(left);
    this.taken.delete(task);
  }

  private begin(): void {
    this.last = 0;
    this.proposal = undefined;
    this.isDone = false;
    this.n += 1;
  }

  private runs(session: string, state: TaskState): void {
    if (state === 'planning' || state === 'running' || state === 'waiting_approval') {
      this.live.add(session);
    } else {
      this.live.delete(session);
    }
    if (state === 'paused') {
      // What it asked will be asked again; an answer now would be one.
      [...this.asks].filter(([, { task }]) => task === session).forEach(([approval]) => this.asks.delete(approval));
    }
  }

  /** Reads what is not handed on yet. At most one question is under way. */
  private async catchUp(): Promise<void> {
    this.again = true;
    if (this.isReading) {
      return;
    }
    this.isReading = true;
    try {
      while (this.again && this.shown !== undefined && this.isUp) {
        this.again = false;
        const { shown: session, n } = this;
        const params = { session, fromSeq: this.last + 1, limit: PAGE };
        const loaded = (await this.request('pairwright/session/load', params)) as {
          session: Session;
          events: Event[];
        };
        if (n !== this.n) {
          this.again = true;
          continue;
        }
        this.isTask = loaded.session.state !== null;
        if (this.isTask && loaded.session.state !== null && isOver(loaded.session.state)) {
          this.live.delete(session);
        }
        this.hand(loaded.events);
        this.again ||= loaded.events.length === PAGE;
      }
    } finally {
      this.isReading = false;
    }
    this.tellGoing();
  }

  private hand(events: Event[]): void {
    const news = events.filter(({ seq }) => seq > this.last);
    this.last = news.at(-1)?.seq ?? this.last;
    for (const event of news) {
      if (event.kind === 'diff') {
        this.proposal = event.proposal ?? this.proposal;
      }
      this.isDone ||= event.kind === 'done';
    }
    if (news.length > 0) {
      this.face.events(news);
    }
  }

  private tellGoing(): void {
    this.face.going({
      kind: this.shown === undefined ? 'new' : this.isTask ? 'task' : 'chat',
      isLive: this.shown !== undefined && this.live.has(this.shown),
      isServerUp: this.isUp,
      asks: [...this.asks].filter(([, { task }]) => task === this.shown).map(([approval]) => approval),
    });
  }
}

function isOver(state: TaskState): boolean {
  return ['paused', 'succeeded', 'failed', 'cancelled'].includes(state);
}
