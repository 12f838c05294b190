// Bundles the extension into dist/, and the page of its view into dist/view.{js,css}.
//
// The language client and the view are files of their own: VS Code waits until the first file is
// read, and those two are most of the code.
import { build } from 'esbuild';

const options = {
  bundle: true,
  minify: true,
  sourcemap: process.argv.includes('--sourcemap'),
  legalComments: 'none',
};
await build({
  ...options,
  entryPoints: ['src/extension.ts', 'src/client.ts', 'src/panel.ts'],
  outdir: 'dist',
  platform: 'node',
  target: 'node20',
  format: 'cjs',
  external: ['vscode', './client.js', './panel.js'],
  // They are required, as `vscode` is given to who requires it.
  supported: { 'dynamic-import': false },
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
