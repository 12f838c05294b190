// Runs the unit tests: bundles each file of test/ and hands it to node's own runner.
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';

import { build } from 'esbuild';

const files = readdirSync('test').filter((name) => name.endsWith('.test.ts'));
await build({
  entryPoints: files.map((name) => `test/${name}`),
  outdir: 'dist/test',
  bundle: true,
  platform: 'node',
  target: 'node20',
  format: 'cjs',
  sourcemap: 'inline',
});
const bundled = files.map((name) => `dist/test/${name.replace(/\.ts$/, '.js')}`);
const done = spawnSync(process.execPath, ['--enable-source-maps', '--test', ...bundled], { stdio: 'inherit' });
process.exit(done.status ?? 1);
