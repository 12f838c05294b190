/** Finding the server's program, and telling whether it is the right one. */
import { execFile } from 'node:child_process';
import { constants } from 'node:fs';
import { access } from 'node:fs/promises';
import * as path from 'node:path';

/** The first version of the server that speaks as this extension does. */
export const NEEDED = '0.1.0';

/** A program cannot take longer to tell its version, in milliseconds. */
const PATIENCE = 10_000;

export interface Found {
  program: string;
  version: string;
}

/** Why there is no server, in words for the user. */
export class NoServer extends Error {}

/** Where to look: the setting wins, then PATH, then what came with the extension. */
export interface Places {
  setting: string | undefined;
  path: string | undefined;
  bundled: string;
}

async function isExecutable(file: string): Promise<boolean> {
  try {
    await access(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** The program to start.
 * @throws NoServer when there is none. */
export async function locate(places: Places): Promise<string> {
  if (places.setting) {
    if (await isExecutable(places.setting)) {
      return places.setting;
    }
    throw new NoServer(
      `pairwright.server.path names ${places.setting}, which is not an executable program.`,
    );
  }
  const name = process.platform === 'win32' ? 'pairwright.exe' : 'pairwright';
  // Relative entries would be looked up in whatever folder is open.
  const folders = (places.path ?? '').split(path.delimiter).filter((f) => path.isAbsolute(f));
  for (const file of [...folders.map((folder) => path.join(folder, name)), places.bundled]) {
    if (await isExecutable(file)) {
      return file;
    }
  }
  throw new NoServer(
    'The program pairwright is not on PATH. Install it, or name it in the setting pairwright.server.path.',
  );
}

/** Asks `program` for its version.
 * @throws NoServer when it is not the server, or too old. */
export async function check(program: string): Promise<Found> {
  const said = await new Promise<string>((resolve, reject) => {
    execFile(program, ['--version'], { timeout: PATIENCE }, (error, stdout) => {
      if (error) {
        reject(new NoServer(`${program} does not answer to --version: ${error.message}`));
      } else {
        resolve(stdout.trim());
      }
    });
  });
  const version = /^pairwright (\d+\.\d+\.\d+)/.exec(said)?.[1];
  if (version === undefined) {
    throw new NoServer(`${program} is not Pairwright; to --version it says “${said.slice(0, 80)}”.`);
  }
  if (isOlder(version, NEEDED)) {
    throw new NoServer(`${program} is version ${version}; this extension needs ${NEEDED} or later.`);
  }
  return { program, version };
}

/** Whether version `a` comes before `b`. */
export function isOlder(a: string, b: string): boolean {
  const [left, right] = [a, b].map((version) => version.split('.').map(Number));
  for (let at = 0; at < 3; at++) {
    const difference = (left?.[at] ?? 0) - (right?.[at] ?? 0);
    if (difference !== 0) {
      return difference < 0;
    }
  }
  return false;
}
