/**
 * Hunks that wait for a decision: where they are, and what lies before and after a place.
 *
 * Nothing here knows the editor.
 */
import type { Edit } from './protocol';

export interface Hunk {
  id: string;
  proposal: string;
  author: string;
  kind: 'lines' | 'create' | 'delete' | 'move' | 'mode';
  state: 'pending' | 'accepted' | 'rejected';
  /** Whole lines of the text as it is now; empty where lines are only added. */
  range: { start: { line: number }; end: { line: number } };
  isEdited: boolean;
  old: string;
  new: string;
  /** Lines of all that comes; `new` may be cut. */
  newLines: number;
}

/** What `pairwright/diff/list` tells of one file. */
export interface FileHunks {
  uri: string;
  hunks: Hunk[];
}

/** What decisions and rollbacks answer. */
export interface Decided {
  applied: string[];
  paths: string[];
  conflicts: { path: string; lines: { start: number } }[];
}

export interface Place {
  uri: string;
  line: number;
}

/** Keeps what still waits, one entry a file, files by name and hunks by line. */
export function pending(files: FileHunks[]): FileHunks[] {
  const byUri = new Map<string, Hunk[]>();
  for (const { uri, hunks } of files) {
    const waiting = hunks.filter((hunk) => hunk.state === 'pending');
    if (waiting.length > 0) {
      byUri.set(uri, [...(byUri.get(uri) ?? []), ...waiting]);
    }
  }
  return [...byUri]
    .map(([uri, hunks]) => ({ uri, hunks: hunks.sort((a, b) => lineOf(a) - lineOf(b)) }))
    .sort((a, b) => (a.uri < b.uri ? -1 : 1));
}

/** The line to stand on for a hunk: of one that only adds lines, the line they follow. */
export function lineOf(hunk: Hunk): number {
  const { start, end } = hunk.range;
  return start.line === end.line ? Math.max(start.line - 1, 0) : start.line;
}

/** The hunk that covers a line. */
export function at(files: FileHunks[], place: Place): Hunk | undefined {
  const hunks = files.find((file) => file.uri === place.uri)?.hunks ?? [];
  return hunks.find((hunk) => {
    const first = lineOf(hunk);
    return first <= place.line && place.line <= Math.max(hunk.range.end.line - 1, first);
  });
}

/** The line of a file for one of the text that all its hunks make of it, which `hunks` are, in their
 * order. None below a hunk that somebody has edited: whether such a one is in that text is not known. */
export function lineBefore(hunks: readonly Hunk[], line: number): number | undefined {
  let shift = 0;
  for (const hunk of hunks) {
    const { start, end } = hunk.range;
    const first = start.line + shift;
    if (line < first) {
      break;
    }
    if (hunk.isEdited) {
      return undefined;
    }
    if (line < first + Math.max(hunk.newLines, 1)) {
      return lineOf(hunk);
    }
    shift += hunk.newLines - (end.line - start.line);
  }
  return line - shift;
}

/** The next hunk after a place (or the one before), also in other files, round at the ends. */
export function beyond(files: FileHunks[], place: Place, step: 1 | -1): Place | undefined {
  const places = files.flatMap(({ uri, hunks }) => hunks.map((hunk) => ({ uri, line: lineOf(hunk) })));
  const compare = (a: Place, b: Place): number =>
    a.uri === b.uri ? a.line - b.line : a.uri < b.uri ? -1 : 1;
  if (step === 1) {
    return places.find((other) => compare(other, place) > 0) ?? places[0];
  }
  return places.filter((other) => compare(other, place) < 0).at(-1) ?? places.at(-1);
}

/** What does the edit again that was taken back last: the oldest of those that came after all that stand.
 * `edits` are newest first. */
export function takenBackLast(edits: Pick<Edit, 'standing' | 'rollbackToken'>[]): string | undefined {
  const standing = edits.findIndex((edit) => edit.standing === 'applied');
  const since = standing === -1 ? edits : edits.slice(0, standing);
  const last = since.filter((edit) => edit.standing === 'taken_back' && edit.rollbackToken !== null).at(-1);
  return last?.rollbackToken ?? undefined;
}

/** What a user should know of a decision that did not do all. */
export function refusals(decided: Decided): string[] {
  return decided.conflicts.map(
    ({ path, lines }) => `${path} was changed at line ${lines.start + 1} since; nothing was done there`,
  );
}
