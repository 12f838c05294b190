import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import * as path from 'node:path';
import { test } from 'node:test';

import { check, isOlder, locate } from '../src/server';

function folder(context: { after(end: () => void): void }): string {
  const made = mkdtempSync(path.join(tmpdir(), 'pairwright-'));
  context.after(() => rmSync(made, { recursive: true }));
  return made;
}

function program(where: string, says: string, mode = 0o755): string {
  mkdirSync(where, { recursive: true });
  const file = path.join(where, 'pairwright');
  writeFileSync(file, `#!/bin/sh\n${says}\n`);
  chmodSync(file, mode);
  return file;
}

test('the setting wins over PATH, and PATH over what came with the extension', async (context) => {
  const root = folder(context);
  const [setting, onPath, bundled] = ['a', 'b', 'c'].map((name) => program(path.join(root, name), ''));
  assert.ok(setting && onPath && bundled);
  const places = { setting: undefined, path: '/nowhere', bundled };
  assert.equal(await locate({ ...places, setting, path: path.dirname(onPath) }), setting);
  assert.equal(await locate({ ...places, path: `/nowhere:${path.dirname(onPath)}` }), onPath);
  assert.equal(await locate(places), bundled);
});

test('a program in the open folder is not taken for one on PATH', async (context) => {
  const root = folder(context);
  program(root, '');
  const before = process.cwd();
  process.chdir(root);
  context.after(() => process.chdir(before));
  const places = { setting: undefined, path: '.::bin', bundled: '/nowhere/pairwright' };
  await assert.rejects(locate(places), /not on PATH.*pairwright\.server\.path/);
});

test('a setting that names no program says so and is not passed over', async (context) => {
  const onPath = path.dirname(program(folder(context), ''));
  const places = { setting: '/nowhere/pairwright', path: onPath, bundled: '' };
  await assert.rejects(locate(places), /server\.path names \/nowhere\/pairwright/);
  const plain = program(path.join(onPath, 'plain'), '', 0o644);
  await assert.rejects(locate({ ...places, setting: plain }), /not an executable/);
});

test('a version is read, an old one and another program are refused with the reason', async (context) => {
  const root = folder(context);
  const good = program(path.join(root, 'good'), 'echo pairwright 0.12.3');
  assert.deepEqual(await check(good), { program: good, version: '0.12.3' });
  const cases: [string, RegExp][] = [
    ['echo pairwright 0.0.9', /version 0\.0\.9; this extension needs 0\.1\.0/],
    ['echo hello', /not Pairwright.*hello/],
    ['exit 3', /does not answer to --version/],
  ];
  for (const [says, why] of cases) {
    await assert.rejects(check(program(path.join(root, 'bad'), says)), why);
  }
});

test('versions are compared number by number', () => {
  const cases: [string, string, boolean][] = [
    ['0.1.0', '0.1.0', false],
    ['0.9.9', '0.10.0', true],
    ['1.0.0', '0.99.99', false],
    ['0.1.1', '0.1.2', true],
  ];
  for (const [a, b, older] of cases) {
    assert.equal(isOlder(a, b), older, `${a} < ${b}`);
  }
});
