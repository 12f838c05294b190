import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Ahead, Question, cursorAfter } from '../src/ahead';

function question(answer: string, cancelled: () => unknown = () => undefined): Question<string> {
  return new Question((token) => {
    token.onCancellationRequested(cancelled);
    return Promise.resolve(answer);
  });
}

function change(line: number, character: number, text: string) {
  return { range: { start: { line, character } }, text };
}

test('an answer is given for the very state it was asked about', async () => {
  const ahead = new Ahead<string>();
  ahead.ask('a.js 1', () => question('text'));
  assert.equal(await ahead.take('a.js 1')?.answer, 'text');
  assert.equal(await ahead.take('a.js 1')?.answer, 'text');
  ahead.drop();
  assert.equal(ahead.take('a.js 1'), undefined);
});

test('an answer that is overtaken or cancelled is not given later', () => {
  const ends: [string, (ahead: Ahead<string>) => unknown][] = [
    ['another state was asked about', (ahead) => ahead.take('a.js 2')],
    ['what is selected in a menu was asked about', (ahead) => ahead.take(undefined)],
    ['who took it up cancelled it', (ahead) => ahead.take('a.js 1')?.cancel()],
  ];
  for (const [why, end] of ends) {
    const ahead = new Ahead<string>();
    let cancelled = 0;
    ahead.ask('a.js 1', () => question('', () => (cancelled += 1)));
    end(ahead);
    assert.equal(cancelled, 1, why);
    assert.equal(ahead.take('a.js 1'), undefined, why);
  }
});

test('one that is cancelled late leaves the newer one alone', () => {
  const ahead = new Ahead<string>();
  const ask = (state: string) => {
    ahead.ask(state, () => question(state));
    return ahead.take(state);
  };
  const first = ask('a.js 1');
  const second = ask('a.js 2');
  first?.cancel();
  assert.equal(ahead.take('a.js 2'), second);
});

test('a newer question cancels the older, and dropping it cancels the last', () => {
  const ahead = new Ahead<string>();
  const cancelled: number[] = [];
  for (const n of [1, 2]) {
    ahead.ask(`a.js ${n}`, () => question('', () => cancelled.push(n)));
  }
  assert.deepEqual(cancelled, [1]);
  ahead.drop();
  ahead.drop();
  assert.deepEqual(cancelled, [1, 2]);
});

test('who listens hears of a cancellation once, and not once it listens no more', () => {
  let heard = 0;
  const asked = question('', () => (heard += 1));
  asked.cancel();
  asked.cancel();
  assert.equal(heard, 1);
  const other = new Question((token) => {
    token.onCancellationRequested(() => (heard += 1)).dispose();
    return Promise.resolve('');
  });
  other.cancel();
  assert.equal(heard, 1);
  assert.equal(other.isCancellationRequested, true);
});

test('where the cursor will be is known for what is typed and deleted', () => {
  const at = (...changes: ReturnType<typeof change>[]) => {
    const place = cursorAfter(changes);
    return place && [place.line, place.character];
  };
  assert.deepEqual(at(change(3, 4, 'x')), [3, 5]);
  assert.deepEqual(at(change(3, 4, '')), [3, 4]);
  assert.deepEqual(at(change(3, 4, '\n    ')), [4, 4]);
  assert.deepEqual(at(change(3, 4, '\r\n')), [4, 0]);
});

test('it is not known where the editor closes brackets, several cursors type, or text is pasted', () => {
  for (const changes of [
    [],
    [change(3, 4, '()')],
    [change(3, 4, 'x'), change(5, 4, 'x')],
    [change(3, 4, 'pasted')],
    [change(3, 4, '\nfirst line\n')],
    [change(3, 4, '\n}')],
  ]) {
    assert.equal(cursorAfter(changes), undefined, JSON.stringify(changes));
  }
});
