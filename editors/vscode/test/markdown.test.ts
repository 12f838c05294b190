import assert from 'node:assert/strict';
import { test } from 'node:test';

import { render } from '../src/view/markdown';

const html = (text: string): string => render(text).html;

test('no tag comes from the text', () => {
  for (const text of [
    '<script>alert(1)</script>',
    'a <img src=x onerror=alert(1)> b',
    '<b>bold</b>',
    '`<i>`',
    '```\n</code></pre><script>\n```',
    '```"><img src=x>\n\n```',
  ]) {
    assert.doesNotMatch(html(text), /<(script|img|b|i)\b/, text);
  }
});

test('links go nowhere by themselves', () => {
  assert.match(html('[a](src/a.ts#L3)'), /<a href="#" data-to="src\/a.ts#L3" title="src\/a.ts#L3">a<\/a>/);
  assert.match(html('[a](file:///w/a.ts)'), /data-to="file:\/\/\/w\/a.ts"/);
  assert.match(html('[a](https://example.org)'), /data-to="https:\/\/example.org"/);
  for (const to of [
    'javascript:alert(1)',
    'JaVaScRiPt:alert(1)',
    'java&#115;cript:alert(1)',
    'data:text/html,x',
    'vbscript:x',
    'command:workbench.action.quit',
    'vscode://x',
  ]) {
    assert.doesNotMatch(html(`[a](${to})`), /<a/, to);
    assert.doesNotMatch(html(`<${to}>`), /<a/, to);
  }
  assert.doesNotMatch(html('[a](x"onclick="y)'), /" ?onclick/);
});

test('nothing is loaded', () => {
  assert.doesNotMatch(html('![a](https://example.org/a.png)'), /<img|src=/);
  assert.doesNotMatch(html('![a][b]\n\n[b]: https://example.org/a.png'), /<img|src=/);
});

test('a block is given with the line above it', () => {
  const { blocks } = render('Text.\n\nsrc/a.ts\n```ts\nlet a;\n```\n\nMore.\n\n```\nb\n```\n', { review: true });
  assert.deepEqual(blocks, [
    { source: 'src/a.ts\n```ts\nlet a;\n```\n', code: 'let a;\n' },
    { source: '```\nb\n```\n', code: 'b\n' },
  ]);
});

test('a block has buttons once the answer is whole', () => {
  const text = '```\na\n```';
  assert.doesNotMatch(render(text).html, /<button/);
  assert.match(render(text, { review: true }).html, /data-block="0" data-do="review"/);
  assert.doesNotMatch(render(text, { review: false }).html, /data-do="review"/);
});
