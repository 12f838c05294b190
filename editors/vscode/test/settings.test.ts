import assert from 'node:assert/strict';
import { test } from 'node:test';

import { type Inspected, explicit } from '../src/settings';

test('only what the user has set is sent, the nearest first', () => {
  const known: Record<string, Inspected & { defaultValue?: unknown }> = {
    'complete.maxLines': { defaultValue: 16 },
    'complete.enabled': { defaultValue: true, globalValue: false, workspaceValue: true },
    'complete.languages': { globalValue: { markdown: false } },
    'models.complete.url': { globalValue: 'http://localhost:8080', workspaceFolderValue: null },
    'log.file': { globalValue: null },
  };
  const keys = [...Object.keys(known), 'never.heard.of'];
  assert.deepEqual(
    explicit(keys, (key) => known[key]),
    {
      complete: { enabled: true, languages: { markdown: false } },
      models: { complete: { url: 'http://localhost:8080' } },
    },
  );
});

test('objects are laid over each other, lists are not', () => {
  const known: Record<string, Inspected> = {
    'complete.languages': {
      globalValue: { markdown: false, python: false },
      workspaceValue: { python: true },
      workspaceFolderValue: { rust: false },
    },
    'mcp.servers': { globalValue: { notes: { args: ['a', 'b'], env: { A: '1' } } }, workspaceValue: { notes: { args: ['c'] } } },
  };
  assert.deepEqual(
    explicit(Object.keys(known), (key) => known[key]),
    {
      complete: { languages: { markdown: false, python: true, rust: false } },
      mcp: { servers: { notes: { args: ['c'], env: { A: '1' } } } },
    },
  );
});

test('nothing set is an empty object', () => {
  assert.deepEqual(explicit(['complete.enabled'], () => ({})), {});
});
