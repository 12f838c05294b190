// Bundles the extension into dist/extension.js, and the page of its view into dist/view.{js,css}.
import { build } from 'esbuild';

const options = {
  bundle: true,
  minify: true,
  sourcemap: process.argv.includes('--sourcemap'),
  legalComments: 'none',
};
await build({
  ...options,
  entryPoints: ['src/extension.ts'],
  outfile: 'dist/extension.js',
  platform: 'node',
  target: 'node20',
  format: 'cjs',
  external: ['vscode'],
});
await build({
  ...options,
  entryPoints: { view: 'src/view/main.ts' },
  outdir: 'dist',
  platform: 'browser',
  target: 'chrome122',
  format: 'iife',
});
await build({ ...options, entryPoints: { view: 'src/view/style.css' }, outdir: 'dist' });
