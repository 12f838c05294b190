/**
 * The page of the chat view: shows what it is told and tells what the user does.
 *
 * Holds: it draws at most once a frame. What the user has written survives the page, by the editor's
 * state of it; everything else the extension tells anew.
 */
import type { Mode } from '../protocol';
import type { Chip, Going, ToExtension, ToView } from './messages';
import { SessionView } from './session';
import { Transcript, button, make, showTask } from './transcript';

interface Kept {
  draft?: string;
  mode?: Mode | 'ask';
}

interface Editor {
  postMessage(message: ToExtension): void;
  getState(): Kept | undefined;
  setState(kept: Kept): void;
}

declare function acquireVsCodeApi(): Editor;

const editor = acquireVsCodeApi();
const tell = (message: ToExtension): void => editor.postMessage(message);

function named<Type extends HTMLElement>(id: string, type: new () => Type): Type {
  const element = document.getElementById(id);
  if (!(element instanceof type)) {
    throw new Error(`the page has no ${id}`);
  }
  return element;
}

const log = named('log', HTMLElement);
const task = named('task', HTMLElement);
const cut = named('cut', HTMLElement);
const failed = named('failed', HTMLElement);
const welcome = named('welcome', HTMLElement);
const form = named('form', HTMLFormElement);
const chips = named('chips', HTMLUListElement);
const draft = named('draft', HTMLTextAreaElement);
const mode = named('mode', HTMLSelectElement);
const send = named('send', HTMLButtonElement);
const controls = named('controls', HTMLElement);

let session = new SessionView();
let going: Going = { kind: 'new', isLive: false, isServerUp: false, asks: [] };
const transcript = new Transcript(log, tell);

let isDue = false;
function draw(): void {
  if (isDue) {
    return;
  }
  isDue = true;
  requestAnimationFrame(() => {
    isDue = false;
    transcript.show(session, new Set(going.asks));
    showTask(session, task);
    cut.hidden = !session.isCut;
    welcome.hidden = session.entries.length > 0;
    // A reader is told an answer once it is whole, not piece by piece.
    log.setAttribute('aria-busy', String(going.isLive && going.asks.length === 0));
    showControls();
  });
}

function showControls(): void {
  const { kind, isLive, isServerUp } = going;
  const isOver = session.state !== undefined && ['succeeded', 'failed', 'cancelled'].includes(session.state);
  mode.hidden = kind !== 'new';
  chips.hidden = kind === 'task' || (kind === 'new' && mode.value !== 'ask');
  draft.placeholder = kind === 'task' ? 'Tell the task something' : mode.value === 'ask' ? 'Ask about this code' : 'What is to be done?';
  draft.setAttribute('aria-label', draft.placeholder);
  send.disabled = !isServerUp || (kind === 'chat' && isLive) || (kind === 'task' && !isLive);
  const wanted: { title: string; type: 'stop' | 'pause' | 'resume' | 'takeOver' | 'addContext'; is: boolean }[] = [
    { title: 'Stop', type: 'stop', is: isLive },
    { title: 'Pause', type: 'pause', is: isLive && kind === 'task' },
    { title: 'Resume', type: 'resume', is: !isLive && kind === 'task' && !isOver && isServerUp },
    { title: 'Take over', type: 'takeOver', is: kind === 'task' && !isOver && isServerUp },
    { title: 'Add context…', type: 'addContext', is: !chips.hidden },
  ];
  const shown = wanted.filter(({ is }) => is);
  const titles = shown.map(({ title }) => title).join();
  // Made anew only where they are others, or they would lose the focus.
  if (controls.dataset['titles'] !== titles) {
    controls.dataset['titles'] = titles;
    controls.replaceChildren(...shown.map(({ title, type }) => button(title, () => tell({ type }))));
  }
}

function showChips(all: Chip[]): void {
  chips.replaceChildren(
    ...all.map(({ id, label, title }) => {
      const remove = button('×', () => tell({ type: 'removeChip', id }));
      remove.setAttribute('aria-label', `Leave out ${title}`);
      const item = make('li', '', label, remove);
      item.title = title;
      return item;
    }),
  );
}

function keep(): void {
  editor.setState({ draft: draft.value, mode: mode.value as Mode | 'ask' });
}

function submit(): void {
  const text = draft.value.trim();
  if (text === '' || send.disabled) {
    return;
  }
  failed.hidden = true;
  tell({ type: 'send', text, mode: mode.value as Mode | 'ask' });
  draft.value = '';
  keep();
}

function take(message: ToView): void {
  switch (message.type) {
    case 'clear':
      session = new SessionView();
      transcript.clear();
      failed.hidden = true;
      break;
    case 'events':
      message.events.forEach((event) => session.take(event));
      break;
    case 'going':
      going = message.going;
      break;
    case 'chips':
      showChips(message.chips);
      break;
    case 'failed':
      failed.textContent = message.message;
      failed.hidden = false;
      if (message.text !== undefined && draft.value === '') {
        draft.value = message.text;
        keep();
      }
      break;
    case 'write':
      mode.value = message.mode ?? mode.value;
      draft.value = message.text ?? draft.value;
      keep();
      draft.focus();
      break;
  }
  draw();
}

form.addEventListener('submit', (event) => {
  event.preventDefault();
  submit();
});
draft.addEventListener('keydown', (event) => {
  // Enter also ends what an input method composes.
  if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    submit();
  }
});
draft.addEventListener('input', keep);
mode.addEventListener('change', () => {
  keep();
  draw();
});
document.addEventListener('keydown', (event) => {
  // A task that is stopped is over; that takes more than a key.
  if (event.key === 'Escape' && going.isLive && going.kind === 'chat') {
    tell({ type: 'stop' });
  }
});
window.addEventListener('message', ({ data }: MessageEvent<ToView>) => take(data));

const kept = editor.getState();
draft.value = kept?.draft ?? '';
mode.value = kept?.mode ?? 'ask';
draw();
tell({ type: 'ready' });
