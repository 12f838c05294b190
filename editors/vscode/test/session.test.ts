import assert from 'node:assert/strict';
import { test } from 'node:test';

import type { DiffFile, Event, EventKind } from '../src/protocol';
import { type Content, MOST_ENTRIES, MOST_OUTPUT, MOST_SAID, SessionView } from '../src/view/session';

function shown(...kinds: (EventKind & { turn?: number })[]): SessionView {
  const session = new SessionView();
  kinds.forEach((kind, at) => session.take({ session: 's', turn: 1, ts: 0, seq: at + 1, ...kind } as Event));
  return session;
}

const contents = (session: SessionView): Content[] => session.entries.map(({ content }) => content);

test('pieces of an answer are one answer, whole once something follows', () => {
  const pieces = [
    { kind: 'question', text: 'Why?' },
    { kind: 'message', text: 'Be' },
    { kind: 'message', text: 'cause.' },
  ] as const;
  const answer = { type: 'answer', text: 'Because.', isWhole: false, hasProposal: false };
  assert.deepEqual(contents(shown(...pieces)), [{ type: 'said', text: 'Why?', shown: [] }, answer]);
  assert.deepEqual(contents(shown(...pieces, { kind: 'done', reason: 'search' }))[1], {
    ...answer,
    isWhole: true,
    ended: 'search',
  });
  const next = shown(...pieces, { kind: 'message', text: 'And.', turn: 2 });
  assert.deepEqual(contents(next).slice(1), [{ ...answer, isWhole: true }, { ...answer, text: 'And.' }]);
});

test('an event that comes twice is taken once', () => {
  const session = shown({ kind: 'notice', text: 'a' });
  session.take({ session: 's', turn: 1, ts: 0, seq: 1, kind: 'notice', text: 'a' });
  assert.equal(session.entries.length, 1);
});

test('how a turn ended is said where it was not answered', () => {
  const ended = (reason: string): Content | undefined => contents(shown({ kind: 'done', reason })).at(-1);
  assert.equal(ended('answered'), undefined);
  assert.deepEqual(ended('stopped'), { type: 'ended', reason: 'stopped' });
});

test('a step has what it printed and what came of it, whatever came between', () => {
  const step = (call: string): EventKind => ({ kind: 'tool_call', call, tool: 'run', arguments: '{}' });
  const session = shown(
    step('a'),
    step('b'),
    { kind: 'tool_output', call: 'a', text: 'x' },
    { kind: 'tool_output', call: 'b', text: 'y'.repeat(MOST_OUTPUT + 1) },
    { kind: 'tool_result', call: 'a', tool: 'run', outcome: 'done', text: 'x', took: 5, tier: 'namespaces' },
  );
  const [first, second] = contents(session);
  assert.deepEqual(first, {
    type: 'step',
    call: 'a',
    tool: 'run',
    given: '{}',
    output: 'x',
    result: { outcome: 'done', text: 'x', took: 5, tier: 'namespaces' },
  });
  assert.equal(second?.type === 'step' && second.output.length, MOST_OUTPUT);
});

test('what a task would change is told once, as it is now', () => {
  const files = (path: string): { path: string; added: number; removed: number }[] => [{ path, added: 1, removed: 0 }];
  const session = shown(
    { kind: 'message', text: 'a' },
    { kind: 'diff', files: files('a') },
    { kind: 'diff', files: files('b') },
    { kind: 'diff', files: files('c'), proposal: 'p' },
  );
  assert.deepEqual(contents(session).slice(1), [{ type: 'diff', files: files('c'), proposal: 'p' }]);
  assert.equal(contents(session)[0]?.type === 'answer' && session.entries[0]?.version, 3);
});

test('the hunks so far of each file are those it was last told with', () => {
  const file = (path: string, patch?: string): DiffFile => ({
    path,
    added: 1,
    removed: 0,
    ...(patch === undefined ? {} : { patch }),
  });
  const session = shown(
    { kind: 'diff', files: [file('a', '1')] },
    { kind: 'diff', files: [file('a'), file('b', '2')] },
    { kind: 'diff', files: [file('a', '3'), file('b')] },
  );
  assert.deepEqual(contents(session), [{ type: 'diff', files: [file('a', '3'), file('b', '2')] }]);
});

test('what is being written is shown until it is a call', () => {
  const pieces = [
    { kind: 'writing', call: 'c1', path: 'a.py', text: 'one\n' },
    { kind: 'writing', call: 'c1', path: 'a.py', text: 'two\n' },
  ] as const;
  const writing = { type: 'writing', call: 'c1', path: 'a.py', text: 'one\ntwo\n' };
  assert.deepEqual(contents(shown(...pieces)), [writing]);
  const usage = { kind: 'usage', input: 1, output: 1, model: 'm' } as const;
  const call = { kind: 'tool_call', call: 'c1', tool: 'edit', arguments: '{}' } as const;
  const types = contents(shown(...pieces, usage, call)).map(({ type }) => type);
  assert.deepEqual(types, ['step']);
  const paused = contents(shown(...pieces, { kind: 'status', state: 'paused' }));
  assert.deepEqual(paused, [], 'a call that was cut off is none');
});

test('a decision stands with its question', () => {
  const asked = {
    approval: 'a',
    subject: { type: 'command', command: 'touch a', remembered: 'touch a' },
    risk: 'low',
    reason: 'r',
    scopes: ['once', 'task'],
  } as const;
  const session = shown(
    { kind: 'approval', ...asked, scopes: [...asked.scopes] },
    { kind: 'decided', approval: 'a', decision: 'yes', scope: 'task', by: 'user', turn: 2 },
  );
  const [entry] = contents(session);
  assert.equal(entry?.type === 'approval' && entry.decided, 'You allowed it, for this task');
});

test('of a session without end the newest is kept', () => {
  const notices = Array.from({ length: MOST_ENTRIES + 5 }, (_, n) => ({ kind: 'notice' as const, text: `${n}` }));
  const session = shown(...notices);
  assert.equal(session.entries.length, MOST_ENTRIES);
  assert.deepEqual(contents(session)[0], { type: 'notice', text: '5' });
  assert.ok(session.isCut);
});

test('of an answer without end the beginning is kept', () => {
  const pieces = Array.from({ length: 5 }, () => ({ kind: 'message' as const, text: 'x'.repeat(MOST_SAID / 3) }));
  const session = shown(...pieces);
  const [entry] = session.entries;
  assert.equal(entry?.content.type === 'answer' && entry.content.text.length, MOST_SAID);
  assert.equal(entry?.version, 4, 'what is not kept is not drawn');
  assert.ok(session.isCut);
});

test('a kind that nobody knows is passed over', () => {
  assert.deepEqual(shown({ kind: 'new_kind' } as unknown as EventKind).entries, []);
});
