import assert from 'node:assert/strict';
import { test } from 'node:test';

import { linesOf } from '../src/lines';

test('the lines of a selection are those that it has characters of', () => {
  const selected = (line: number, character: number, endLine: number, endCharacter: number) =>
    linesOf({ start: { line, character }, end: { line: endLine, character: endCharacter } });
  assert.deepEqual(selected(2, 4, 2, 9), [3, 3]);
  assert.deepEqual(selected(2, 0, 2, 0), [3, 3]);
  assert.deepEqual(selected(0, 0, 1, 5), [1, 2]);
  // Whole lines end where the next one begins.
  assert.deepEqual(selected(0, 0, 2, 0), [1, 2]);
});
