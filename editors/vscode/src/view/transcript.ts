/** The entries of a session as elements of the page. */
import type { Approval, DiffFile, PlanItem } from '../protocol';
import { type Block, render } from './markdown';
import type { ToExtension } from './messages';
import type { Content, Entry, SessionView } from './session';

/** Characters of what a tool is given. */
const LINE = 120;

type Tell = (message: ToExtension) => void;

/** What an element shows. */
interface Shown {
  element: HTMLElement;
  version: number;
  isAsked: boolean;
}

export class Transcript {
  private readonly shown = new Map<number, Shown>();
  /** Whether its end was in sight when it was scrolled last. */
  private follows = true;

  constructor(
    private readonly log: HTMLElement,
    private readonly tell: Tell,
  ) {
    log.addEventListener('scroll', () => {
      this.follows = this.isAtEnd();
    });
    // What is above and below takes room from it, of which no scrolling tells.
    new ResizeObserver(() => {
      if (this.follows) {
        this.showEnd();
      }
    }).observe(log);
  }

  private isAtEnd(): boolean {
    return this.log.scrollHeight - this.log.scrollTop - this.log.clientHeight < 40;
  }

  private showEnd(): void {
    this.log.scrollTop = this.log.scrollHeight;
  }

  clear(): void {
    this.shown.clear();
    this.log.replaceChildren();
  }

  /** Brings the page to what the session is. Only what changed is made anew; `asks` are the
   * questions that can be answered now. */
  show(session: SessionView, asks: ReadonlySet<string>): void {
    const isAtEnd = this.isAtEnd();
    // What is changed so far is made anew with every edit.
    const open = new Set(this.hunks().map((hunks) => (hunks.open ? hunks.dataset['path'] : undefined)));
    const kept = new Set(session.entries.map(({ id }) => id));
    for (const [id, { element }] of this.shown) {
      if (!kept.has(id)) {
        element.remove();
        this.shown.delete(id);
      }
    }
    for (const entry of session.entries) {
      this.showEntry(entry, asks);
    }
    for (const hunks of this.hunks()) {
      hunks.open = open.has(hunks.dataset['path']);
    }
    if (isAtEnd) {
      this.showEnd();
    }
  }

  /** The parts that show the hunks of a file. */
  private hunks(): HTMLDetailsElement[] {
    return [...this.log.querySelectorAll<HTMLDetailsElement>('details[data-path]')];
  }

  private showEntry(entry: Entry, asks: ReadonlySet<string>): void {
    const { content, id, version } = entry;
    const isAsked = content.type === 'approval' && asks.has(content.asked.approval);
    const known = this.shown.get(id);
    if (known?.version === version && known.isAsked === isAsked) {
      return;
    }
    const element = elementOf(content, isAsked, this.tell);
    if (known) {
      if (known.element.querySelector('details')?.open === true) {
        element.querySelector('details')?.toggleAttribute('open', true);
      }
      known.element.replaceWith(element);
    } else {
      this.log.append(element);
    }
    this.shown.set(id, { element, version, isAsked });
  }
}

function elementOf(content: Content, isAsked: boolean, tell: Tell): HTMLElement {
  switch (content.type) {
    case 'said': {
      const element = make('div', 'said', content.text);
      element.setAttribute('aria-label', `You: ${content.text}`);
      if (content.shown.length === 0) {
        return element;
      }
      const items = content.shown.map(({ title, reason, place, isCut }) => {
        const link = place ? linkTo(place.uri, title, tell) : make('span', '', title);
        const note = make('span', 'note', ` ${reason}${isCut ? ', cut' : ''}`);
        return make('li', '', link, note);
      });
      return make('div', '', element, folded(`What the model was shown (${items.length})`, make('ul', 'plain', ...items)));
    }
    case 'answer': {
      const offers = { review: !content.hasProposal };
      const { html, blocks } = render(content.text, content.isWhole ? offers : undefined);
      const element = make('div', 'answer');
      element.innerHTML = html;
      element.addEventListener('click', (event) => clicked(event, blocks, tell));
      if (content.ended === 'search') {
        element.prepend(make('div', 'kind', 'Search, not a model'));
      }
      return element;
    }
    case 'thought':
      return folded('Thoughts', make('div', 'note', content.text));
    case 'notice':
      return make('div', 'notice note', content.text);
    case 'cited': {
      const places = content.places.map(({ path, firstLine, uri }) =>
        make('li', '', linkTo(uri, firstLine === undefined ? path : `${path}:${firstLine}`, tell)),
      );
      const list = make('ul', 'plain cited', ...places);
      list.setAttribute('aria-label', 'Places named');
      return list;
    }
    case 'writing': {
      const element = folded(`Writing ${content.path ?? ''}…`, make('pre', 'output', content.text));
      element.querySelector('details')?.toggleAttribute('open', true);
      return element;
    }
    case 'step': {
      const { tool, given, output, result } = content;
      const state = result ? `${result.outcome}, ${seconds(result.took)}` : 'running';
      const where = result?.tier === undefined ? '' : `, ${result.tier}`;
      const inside = [make('pre', '', given), ...(output === '' ? [] : [make('pre', 'output', output)])];
      if (result && result.text !== output) {
        inside.push(make('pre', 'result', result.text));
      }
      inside.forEach((pre) => (pre.tabIndex = 0));
      const element = folded(`${tool} ${short(given)} — ${state}${where}`, ...inside);
      element.classList.add('step');
      // What a command prints is seen while it runs.
      element.querySelector('details')?.toggleAttribute('open', !result && output !== '');
      return element;
    }
    case 'denied': {
      const { what, rule, why, instead } = content;
      const element = make('div', 'denied', make('strong', '', `Not allowed: ${what}`), make('div', '', why));
      element.append(make('div', 'note', `Rule: ${rule}`));
      if (instead !== undefined) {
        element.append(make('div', '', `Instead: ${instead}`));
      }
      return element;
    }
    case 'approval':
      return approval(content.asked, content.decided, isAsked, tell);
    case 'diff':
      return diff(content.files, content.proposal, content.rollbackToken, tell);
    case 'ended': {
      const { reason, summary } = content;
      return make('div', 'ended', summary === undefined ? words(reason) : `${words(reason)}: ${summary}`);
    }
  }
}

function approval(asked: Approval, decided: string | undefined, isAsked: boolean, tell: Tell): HTMLElement {
  const { subject, reason, risk, scopes } = asked;
  const element = make('div', 'approval', make('strong', '', questionOf(subject)));
  element.setAttribute('role', 'group');
  element.setAttribute('aria-label', `The task asks: ${questionOf(subject)}`);
  if (subject.type === 'command' || subject.type === 'network') {
    element.append(make('pre', '', subject.command));
  } else if (subject.type === 'tool') {
    element.append(make('pre', '', subject.arguments));
  }
  element.append(make('div', 'note', `${reason} (${risk} risk)`));
  if (decided !== undefined) {
    element.append(make('div', 'decided', decided));
    return element;
  }
  if (!isAsked) {
    element.append(make('div', 'note', 'Nobody waits for an answer now. Resume the task to be asked again.'));
    return element;
  }
  const decide = (title: string, decision: Omit<Extract<ToExtension, { type: 'decide' }>, 'type' | 'approval'>): HTMLElement =>
    button(title, () => tell({ type: 'decide', approval: asked.approval, ...decision }));
  const buttons = make('div', 'buttons');
  if (subject.type === 'question') {
    const options = subject.options.length > 0 ? subject.options : ['Yes'];
    options.forEach((text) => buttons.append(decide(text, { decision: 'yes', text })));
  } else {
    const titles = { once: 'Allow once', task: 'Allow for this task', repository: 'Allow in this folder' };
    scopes.forEach((scope) => buttons.append(decide(titles[scope], { decision: 'yes', scope })));
    const remembered = rememberedOf(subject);
    if (remembered && scopes.some((scope) => scope !== 'once')) {
      const [what, name] = remembered;
      element.append(make('div', 'remembered', `More than once would be remembered as: ${what} `, make('code', '', name)));
    }
  }
  buttons.append(decide('No', { decision: 'no' }));
  element.append(buttons);
  return element;
}

function questionOf(subject: Approval['subject']): string {
  switch (subject.type) {
    case 'command':
      return 'May it run this command?';
    case 'edit':
      return `May it change ${subject.path}?`;
    case 'tool':
      return `May it call ${subject.tool}?`;
    case 'network':
      return `May this command reach ${subject.host}?`;
    case 'budget':
      return `May it go on beyond ${subject.what}?`;
    case 'question':
      return subject.text;
  }
}

/** What a longer permission would be remembered as, in words and to the letter. */
function rememberedOf(subject: Approval['subject']): [string, string] | undefined {
  switch (subject.type) {
    case 'command':
      return ['commands that begin with', subject.remembered];
    case 'edit':
      return ['changes of', subject.path];
    case 'tool':
      return ['calls of', subject.tool];
    case 'network':
      return ['what reaches', subject.host];
    case 'budget':
    case 'question':
      return undefined;
  }
}

function diff(files: DiffFile[], proposal: string | undefined, token: string | undefined, tell: Tell): HTMLElement {
  const title = token !== undefined ? 'Applied' : proposal !== undefined ? 'Proposed' : 'Changed so far';
  const items = files.map(({ path, added, removed, patch }) => {
    const line = `${path} +${added} −${removed}`;
    if (patch === undefined || patch === '') {
      return make('li', '', line);
    }
    const hunks = make('pre', '', patch);
    hunks.tabIndex = 0;
    const details = make('details', '', make('summary', '', line), hunks);
    details.dataset['path'] = path;
    return make('li', '', details);
  });
  const element = make('div', 'diff', make('strong', '', title), make('ul', 'plain', ...items));
  if (proposal !== undefined && token === undefined) {
    element.append(make('div', 'buttons', button('Review hunks', () => tell({ type: 'hunks', proposal }))));
  }
  if (token !== undefined) {
    element.append(make('div', 'buttons', button('Take back', () => tell({ type: 'rollBack', token }))));
  }
  return element;
}

const PLAN_STATES: Record<PlanItem['state'], string> = { pending: '○', in_progress: '▸', done: '✓' };

/** State, plan and budget of a task. */
export function showTask(session: SessionView, element: HTMLElement): void {
  const { plan, state, why, mode, spent, ceilings, cost } = session;
  element.hidden = state === undefined;
  if (state === undefined) {
    return;
  }
  const line = make('div', 'state', `Task (${mode ?? ''}): ${words(state)}${why === undefined ? '' : `, ${why}`}`);
  line.setAttribute('role', 'status');
  const items = plan.map((item) => {
    const mark = make('span', '', `${PLAN_STATES[item.state]} `);
    mark.setAttribute('aria-hidden', 'true');
    const entry = make('li', '', mark, item.text);
    entry.setAttribute('aria-label', `${item.text}: ${words(item.state)}`);
    return entry;
  });
  const list = make('ol', 'plain', ...items);
  list.setAttribute('aria-label', 'Plan');
  const parts = [
    `${spent?.steps ?? 0} of ${ceilings?.steps ?? '?'} steps`,
    `${(spent?.tokens ?? 0).toLocaleString('en')} of ${(ceilings?.tokens ?? 0).toLocaleString('en')} tokens`,
    `${seconds(spent?.wall ?? 0)} of ${ceilings?.wall ?? '?'} s`,
  ];
  const dollars = spent?.cost ?? cost ?? 0;
  if (dollars > 0 || typeof ceilings?.cost === 'number') {
    const most = typeof ceilings?.cost === 'number' ? ` of $${ceilings.cost}` : '';
    parts.push(`$${dollars.toFixed(4)}${most}`);
  }
  const budget = make('div', 'budget note', parts.join(' · '));
  budget.setAttribute('aria-label', `Taken: ${parts.join(', ')}`);
  element.replaceChildren(line, list, budget);
}

function clicked(event: MouseEvent, blocks: Block[], tell: Tell): void {
  const target = event.target instanceof Element ? event.target.closest('[data-to], [data-block]') : null;
  if (!(target instanceof HTMLElement)) {
    return;
  }
  event.preventDefault();
  const { to, block, do: what } = target.dataset;
  const meant = blocks[Number(block)];
  if (to !== undefined) {
    tell({ type: 'open', to });
  } else if (meant) {
    tell(what === 'review' ? { type: 'review', answer: meant.source } : { type: 'copy', text: meant.code });
  }
}

function linkTo(to: string, title: string, tell: Tell): HTMLElement {
  const link = make('a', '', title);
  link.setAttribute('href', '#');
  link.addEventListener('click', (event) => {
    event.preventDefault();
    tell({ type: 'open', to });
  });
  return link;
}

function folded(title: string, ...inside: HTMLElement[]): HTMLElement {
  return make('div', '', make('details', '', make('summary', 'note', title), ...inside));
}

export function button(title: string, click: () => void): HTMLButtonElement {
  const element = make('button', '', title);
  element.type = 'button';
  element.addEventListener('click', click);
  return element;
}

export function make<Tag extends keyof HTMLElementTagNameMap>(
  tag: Tag,
  className: string,
  ...inside: (Node | string)[]
): HTMLElementTagNameMap[Tag] {
  const element = document.createElement(tag);
  if (className !== '') {
    element.className = className;
  }
  element.append(...inside);
  return element;
}

function words(name: string): string {
  return name.replaceAll('_', ' ');
}

/** What a tool is given, in a line: the texts among its arguments. */
function short(given: string): string {
  let texts = [given];
  try {
    const values = Object.values(JSON.parse(given) as object);
    texts = values.filter((value) => typeof value === 'string');
  } catch {
    // As the model wrote it.
  }
  const line = texts.join(' ').replaceAll(/\s+/g, ' ');
  return line.length > LINE ? `${line.slice(0, LINE)}…` : line;
}

function seconds(milliseconds: number): string {
  return `${(milliseconds / 1000).toFixed(1)} s`;
}
