import type { Range } from './protocol';

/** The lines of a selection, from 1; one that it reaches only the start of is not among them. */
export function linesOf({ start, end }: Range): [number, number] {
  const isBefore = end.character === 0 && end.line > start.line;
  return [start.line + 1, isBefore ? end.line : end.line + 1];
}
