import assert from 'node:assert/strict';
import { test } from 'node:test';

import { framed } from '../src/frame';

test('the length of a message is that of its bytes', () => {
  for (const text of ['plain', 'größer', '日本語', '𝒳 and \u2028 and "\r\n\r\n"', '']) {
    const bytes = Buffer.from(framed({ text }));
    const end = bytes.indexOf('\r\n\r\n') + 4;
    const head = bytes.subarray(0, end).toString();
    assert.equal(head, `Content-Length: ${bytes.length - end}\r\n\r\n`);
    assert.deepEqual(JSON.parse(bytes.subarray(end).toString()), { text });
  }
});
