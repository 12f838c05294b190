/** Where a link in an answer leads. Nothing here knows the editor. */
import * as path from 'node:path';
import { fileURLToPath } from 'node:url';

export type Target =
  | { type: 'web'; url: string }
  /** A file below a folder of the workspace; the line is from 1. */
  | { type: 'file'; path: string; line: number | undefined };

/** Reads a link: a uri, or a path below one of `folders`; undefined where it leads out of them, or
 * to what is neither a page nor a file. */
export function target(to: string, folders: readonly string[]): Target | undefined {
  if (/^https?:\/\//i.test(to)) {
    return URL.canParse(to) ? { type: 'web', url: new URL(to).href } : undefined;
  }
  const line = /(?:#L|:)(\d{1,9})(?:[-:]\d*|-L\d+)?$/.exec(to);
  const place = line ? to.slice(0, line.index) : to;
  const file = pathOf(place, folders);
  const isInside = folders.some((folder) => {
    const inside = path.relative(folder, file ?? '/');
    return inside !== '' && !inside.startsWith('..') && !path.isAbsolute(inside);
  });
  return file !== undefined && isInside
    ? { type: 'file', path: file, line: line ? Number(line[1]) : undefined }
    : undefined;
}

function pathOf(place: string, folders: readonly string[]): string | undefined {
  try {
    if (/^file:\/\/\//i.test(place)) {
      return fileURLToPath(place);
    }
    const [folder] = folders;
    const isPath = place !== '' && !/^[a-z][a-z\d+.-]+:/i.test(place);
    return folder !== undefined && isPath ? path.resolve(folder, decodeURIComponent(place)) : undefined;
  } catch {
    return undefined;
  }
}
