import assert from 'node:assert/strict';
import { test } from 'node:test';

import type { Item } from '../src/protocol';
import { type Place, Remembered } from '../src/remembered';

const item: Item = {
  insertText: 'const answer = 42;',
  range: { start: { line: 3, character: 0 }, end: { line: 3, character: 5 } },
  command: { title: '', command: 'taken', arguments: ['7'] },
};

function place(before: string, changes: Partial<Place> = {}): Place {
  return { uri: 'file:///a.js', line: 3, before, after: '', ...changes };
}

function remembered(items: Item[] = [item]): Remembered {
  const remembered = new Remembered();
  remembered.keep(place('const'), items);
  return remembered;
}

test('what is typed along keeps the item, its range up to the cursor', () => {
  const known = remembered();
  for (const before of ['const', 'const ', 'const answer = 4', 'con']) {
    const end = { line: 3, character: before.length };
    const range = { start: item.range.start, end };
    assert.deepEqual(known.fitting(place(before)), [{ ...item, range }], before);
  }
});

test('a text that goes another way, or is typed to the end, has no item', () => {
  for (const before of ['consT', 'const answer = 42;', 'const answer = 42; ', 'let']) {
    assert.deepEqual(remembered().fitting(place(before)), [], before);
  }
});

test('another document, line or text behind the cursor has no item', () => {
  const others: Partial<Place>[] = [{ uri: 'file:///b.js' }, { line: 4 }, { after: ')' }];
  for (const other of others) {
    assert.deepEqual(remembered().fitting(place('const', other)), [], JSON.stringify(other));
  }
});

test('of several items those that still fit stay', () => {
  const other = { ...item, insertText: 'constant' };
  assert.deepEqual(
    remembered([item, other]).fitting(place('consta')).map((one) => one.insertText),
    ['constant'],
  );
});

test('nothing is known after forgetting', () => {
  const known = remembered();
  known.forget();
  assert.deepEqual(known.fitting(place('const')), []);
});
