import assert from 'node:assert/strict';
import { test } from 'node:test';

import { type FileHunks, type Hunk, at, beyond, lineBefore, pending, refusals, takenBackLast } from '../src/pending';

function hunk(id: string, start: number, end: number, changes: Partial<Hunk> = {}): Hunk {
  const range = { start: { line: start }, end: { line: end } };
  return { id, proposal: 'p', author: 'a', kind: 'lines', state: 'pending', range, isEdited: false, old: '', new: 'x\n', newLines: 1, ...changes };
}

const files: FileHunks[] = [
  { uri: 'file:///a', hunks: [hunk('a1', 2, 4), hunk('a2', 9, 9)] },
  { uri: 'file:///c', hunks: [hunk('c1', 0, 0)] },
];

test('what is decided is left out, and a file that two proposals change is one file', () => {
  const listed = [
    { uri: 'file:///c', hunks: [hunk('c1', 0, 0), hunk('c2', 3, 4, { state: 'rejected' })] },
    { uri: 'file:///a', hunks: [hunk('a2', 9, 9)] },
    { uri: 'file:///b', hunks: [hunk('b1', 1, 2, { state: 'accepted' })] },
    { uri: 'file:///a', hunks: [hunk('a1', 2, 4)] },
  ];
  assert.deepEqual(pending(listed), files);
});

test('a hunk is at its lines; one that only adds lines is at the line they follow', () => {
  const found = [0, 1, 2, 3, 4, 7, 8, 9].map((line) => at(files, { uri: 'file:///a', line })?.id);
  const none = undefined;
  assert.deepEqual(found, [none, none, 'a1', 'a1', none, none, 'a2', none]);
  assert.equal(at(files, { uri: 'file:///c', line: 0 })?.id, 'c1');
  assert.equal(at(files, { uri: 'file:///b', line: 0 }), undefined);
});

test('next and previous go through all files and round', () => {
  const [a1, a2, c1] = [
    { uri: 'file:///a', line: 2 },
    { uri: 'file:///a', line: 8 },
    { uri: 'file:///c', line: 0 },
  ];
  const cases = [
    [{ uri: 'file:///a', line: 0 }, a1, c1],
    [a1, a2, c1],
    [{ uri: 'file:///a', line: 5 }, a2, a1],
    [a2, c1, a1],
    [{ uri: 'file:///b', line: 99 }, c1, a2],
    [c1, a1, a2],
    [{ uri: '', line: 0 }, a1, c1],
  ] as const;
  for (const [place, next, previous] of cases) {
    assert.deepEqual(beyond(files, place, 1), next, JSON.stringify(place));
    assert.deepEqual(beyond(files, place, -1), previous, JSON.stringify(place));
  }
  assert.equal(beyond([], a1, 1), undefined);
});

test('a line of what is proposed is one of the file, and those of a hunk are the line it stands at', () => {
  // Two lines become three at 2, one goes at 6, one comes at 9.
  const hunks = [hunk('a', 2, 4, { newLines: 3 }), hunk('b', 6, 7, { newLines: 0 }), hunk('c', 9, 9)];
  const lines = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10].map((line) => lineBefore(hunks, line));
  assert.deepEqual(lines, [0, 1, 2, 2, 2, 4, 5, 6, 8, 8, 9]);
  const edited = [hunk('a', 2, 4, { isEdited: true }), hunk('b', 6, 7)];
  assert.deepEqual([1, 2, 9].map((line) => lineBefore(edited, line)), [1, undefined, undefined]);
});

test('a conflict names the line as editors count', () => {
  const decided = { applied: [], paths: [], conflicts: [{ path: 'a.txt', lines: { start: 2 } }] };
  assert.deepEqual(refusals(decided), ['a.txt was changed at line 3 since; nothing was done there']);
});

test('what was taken back last is done again, unless an edit was made since', () => {
  const edits = (...standings: ('applied' | 'taken_back' | 'rejected' | 'expired')[]) =>
    standings.map((standing, at) => ({ standing, rollbackToken: standing === 'expired' ? null : `t${at}` }));
  assert.equal(takenBackLast(edits('taken_back', 'applied')), 't0');
  // The last was taken back first.
  assert.equal(takenBackLast(edits('taken_back', 'rejected', 'taken_back', 'applied', 'taken_back')), 't2');
  assert.equal(takenBackLast(edits('taken_back', 'taken_back', 'expired')), 't1');
  assert.equal(takenBackLast(edits('applied', 'taken_back')), undefined);
  assert.equal(takenBackLast([]), undefined);
});
