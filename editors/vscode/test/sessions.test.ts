import assert from 'node:assert/strict';
import { test } from 'node:test';

import type { Event } from '../src/protocol';
import { Sessions } from '../src/sessions';
import type { Going } from '../src/view/messages';

/** A server's record of one session, and what a face was told of it. */
class Stage {
  readonly record: Event[] = [];
  readonly told: (number | 'clear')[] = [];
  readonly asked: string[] = [];
  readonly params: object[] = [];
  going: Going | undefined;
  state: string | null = null;
  readonly sessions = new Sessions(
    async (method, params) => {
      this.asked.push(method);
      this.params.push(params);
      switch (method) {
        case 'pairwright/session/load': {
          const { fromSeq } = params as { fromSeq: number };
          return { session: { state: this.state }, events: this.record.filter(({ seq }) => seq >= fromSeq).slice(0, 1000) };
        }
        case 'pairwright/session/new':
          return { session: 's' };
        case 'pairwright/task/start':
          return { task: 's' };
        default:
          return {};
      }
    },
    {
      clear: () => this.told.push('clear'),
      events: (events) => this.told.push(...events.map(({ seq }) => seq)),
      going: (going) => (this.going = going),
      chosen: () => undefined,
    },
  );

  write(n: number, ...kinds: Partial<Event>[]): Event[] {
    const events = [...Array<Partial<Event>>(n).fill({ kind: 'notice', text: '' }), ...kinds].map(
      (kind, at) => ({ session: 's', turn: 1, ts: 0, seq: this.record.length + 1 + at, ...kind }) as Event,
    );
    this.record.push(...events);
    return events;
  }
}

const upTo = (n: number): number[] => Array.from({ length: n }, (_, at) => at + 1);

test('a session is read to its end, however long it is', async () => {
  const stage = new Stage();
  stage.write(2500);
  await stage.sessions.serverIs(true);
  await stage.sessions.show('s');
  assert.deepEqual(stage.told, ['clear', ...upTo(2500)]);
});

test('events are told once and in order, those that were missed too', async () => {
  const stage = new Stage();
  await stage.sessions.serverIs(true);
  await stage.sessions.say({ text: 'a', mode: 'ask', contextRefs: [] });
  const events = stage.write(6);
  await stage.sessions.take(events[0] as Event);
  await stage.sessions.take(events[3] as Event);
  await Promise.all(events.slice(2).map((event) => stage.sessions.take(event)));
  assert.deepEqual(stage.told, ['clear', ...upTo(6)]);
});

test('what happened while the server was away is told when it is back', async () => {
  const stage = new Stage();
  await stage.sessions.serverIs(true);
  await stage.sessions.say({ text: 'a', mode: 'ask', contextRefs: [] });
  assert.equal(stage.going?.isLive, true);
  for (const event of stage.write(2)) {
    await stage.sessions.take(event);
  }
  await stage.sessions.serverIs(false);
  assert.deepEqual([stage.going?.isLive, stage.going?.isServerUp], [false, false]);
  stage.write(1);
  await stage.sessions.serverIs(true);
  assert.deepEqual(stage.told, ['clear', 1, 2, 3]);
});

test('a page that begins anew while a session is read is told all of it', async () => {
  const stage = new Stage();
  stage.write(5);
  await stage.sessions.serverIs(true);
  await stage.sessions.show('s');
  stage.write(2);
  const reading = stage.sessions.serverIs(true);
  stage.told.length = 0;
  await Promise.all([reading, stage.sessions.retell()]);
  assert.deepEqual(stage.told, ['clear', ...upTo(7)]);
});

test('a task begins in the folder of what is looked at, also where that is left out or in no folder', async () => {
  const place = { uri: 'file:///folder/a.txt' };
  const untitled = { textDocument: { uri: 'untitled:Untitled-1' } };
  for (const [given, textDocument] of [
    [{ withoutDocument: true, place }, place],
    [untitled, undefined],
  ] as const) {
    const stage = new Stage();
    stage.state = 'running';
    await stage.sessions.serverIs(true);
    await stage.sessions.say({ text: 'a', mode: 'review', contextRefs: [], ...given });
    const started = stage.params[stage.asked.indexOf('pairwright/task/start')];
    assert.deepEqual(started, { prompt: 'a', mode: 'review', ...(textDocument && { textDocument }) });
  }
});

test('a question of a task waits for the user, and is gone with the task or the server', async () => {
  const stage = new Stage();
  stage.state = 'running';
  stage.write(1);
  await stage.sessions.serverIs(true);
  await stage.sessions.say({ text: 'a', mode: 'review', contextRefs: [] });
  const approval = { approval: 'a1' } as Parameters<Sessions['asked']>[1];
  const decided = stage.sessions.asked('s', approval);
  assert.deepEqual(stage.going?.asks, ['a1']);
  stage.sessions.decide('a1', { decision: 'yes', scope: 'task' });
  assert.deepEqual(await decided, { decision: 'yes', scope: 'task' });
  assert.deepEqual(stage.going?.asks, []);
  const undecided = stage.sessions.asked('s', approval);
  for (const event of stage.write(0, { kind: 'done', reason: 'cancelled' })) {
    await stage.sessions.take(event);
  }
  assert.equal(await undecided, null);
  void stage.sessions.asked('s', approval);
  await stage.sessions.serverIs(false);
  assert.deepEqual(stage.going?.asks, []);
});

test('a question that was decided elsewhere is given up, and one of a task that was paused is not answered', async () => {
  const stage = new Stage();
  stage.state = 'running';
  stage.write(1);
  await stage.sessions.serverIs(true);
  await stage.sessions.say({ text: 'a', mode: 'review', contextRefs: [] });
  const asked = (approval: string): Promise<unknown> =>
    stage.sessions.asked('s', { approval } as Parameters<Sessions['asked']>[1]);
  const elsewhere = asked('a1');
  let answer: unknown = 'none';
  void asked('a2').then((decision) => (answer = decision));
  const [decided, paused] = stage.write(
    0,
    { kind: 'decided', approval: 'a1', decision: 'yes' },
    { kind: 'status', state: 'paused' },
  ) as [Event, Event];
  await stage.sessions.take(decided);
  assert.equal(await elsewhere, null);
  assert.deepEqual(stage.going?.asks, ['a2']);
  await stage.sessions.take(paused);
  assert.deepEqual(stage.going?.asks, []);
  stage.sessions.decide('a2', { decision: 'yes' });
  await new Promise(setImmediate);
  assert.equal(answer, 'none');
});

test('what is said in a task that runs steers it', async () => {
  const stage = new Stage();
  stage.state = 'running';
  stage.write(1);
  await stage.sessions.serverIs(true);
  const said = { mode: 'review' as const, contextRefs: [] };
  await stage.sessions.say({ text: 'a', ...said });
  await stage.sessions.say({ text: 'b', ...said });
  assert.deepEqual(
    stage.asked.filter((method) => method.includes('/task/')),
    ['pairwright/task/start', 'pairwright/task/steer'],
  );
  for (const event of stage.write(0, { kind: 'status', state: 'paused' })) {
    await stage.sessions.take(event);
  }
  assert.equal(stage.going?.isLive, false);
});

test('a task that is taken over is ended, and what it changed is told', async () => {
  const diff = (proposal?: string): Partial<Event> => ({ kind: 'diff', files: [], ...(proposal && { proposal }) }) as Partial<Event>;
  const over = { kind: 'done', reason: 'by the user' } as const;
  for (const [state, proposal, asked, known] of [
    ['running', 'p', ['pairwright/task/stop'], []],
    ['paused', undefined, ['pairwright/task/stop'], []],
    ['succeeded', 'p', [], [diff('p'), over]],
    ['cancelled', undefined, [], [diff(), over]],
  ] as const) {
    const stage = new Stage();
    stage.state = state;
    stage.write(1, { kind: 'status', state }, ...known);
    await stage.sessions.serverIs(true);
    await stage.sessions.show('s');
    if (state === 'running') {
      for (const event of stage.write(0, { kind: 'status', state })) {
        await stage.sessions.take(event);
      }
    }
    const before = stage.asked.length;
    const left = stage.sessions.takeOver();
    if (known.length === 0) {
      for (const event of stage.write(0, diff(proposal), { kind: 'status', state: 'cancelled' }, over)) {
        await stage.sessions.take(event);
      }
    }
    assert.deepEqual(await left, { proposal }, state);
    assert.equal(stage.going?.isLive, false, state);
    const ofTask = stage.asked.slice(before).filter((method) => method.startsWith('pairwright/task/'));
    assert.deepEqual(ofTask, asked);
  }
});

test('nobody waits for the changes of a task whose server has ended, and none is made of a chat', async () => {
  const stage = new Stage();
  await stage.sessions.serverIs(true);
  stage.state = 'running';
  await stage.sessions.begun('s', true);
  const before = stage.sessions.takeOver();
  const over = stage.sessions.takeOver();
  assert.equal(await before, undefined, 'it is taken over once more');
  await stage.sessions.serverIs(false);
  assert.equal(await over, undefined);
  stage.state = null;
  await stage.sessions.serverIs(true);
  await stage.sessions.begun('s', false);
  await assert.rejects(stage.sessions.takeOver(), /no task/);
});
