import assert from 'node:assert/strict';
import { test } from 'node:test';

import { target } from '../src/links';

const FOLDERS = ['/w/one', '/w/two'];

test('a link to a file of the workspace is that file, at its line', () => {
  const at = (path: string, line?: number): object => ({ type: 'file', path, line });
  assert.deepEqual(target('src/a.ts', FOLDERS), at('/w/one/src/a.ts'));
  assert.deepEqual(target('src/a.ts:12', FOLDERS), at('/w/one/src/a.ts', 12));
  assert.deepEqual(target('src/a.ts:12-20', FOLDERS), at('/w/one/src/a.ts', 12));
  assert.deepEqual(target('src/a%20b.ts#L3-L9', FOLDERS), at('/w/one/src/a b.ts', 3));
  assert.deepEqual(target('file:///w/two/a%20b.ts#L3', FOLDERS), at('/w/two/a b.ts', 3));
});

test('a page of the web is a page', () => {
  assert.deepEqual(target('https://example.org/a', FOLDERS), { type: 'web', url: 'https://example.org/a' });
});

test('what leads out of the workspace, or is neither, is nothing', () => {
  for (const to of [
    '../secret',
    'src/../../secret',
    '/etc/passwd',
    '%2e%2e/secret',
    'file:///etc/passwd',
    'file:///w/one/../secret',
    'file://host/w/one/a',
    'file:///w/one',
    'javascript:alert(1)',
    'command:workbench.action.quit',
    'https://',
    '%',
    '',
  ]) {
    assert.equal(target(to, FOLDERS), undefined, to);
  }
  assert.equal(target('src/a.ts', []), undefined);
});
