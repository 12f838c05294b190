// Makes pairwright.vsix, without the network: node scripts/package.mjs [FILE]
// PAIRWRIGHT_BUNDLE may name a server program to ship inside, for one platform.
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, rmSync } from 'node:fs';

const out = process.argv[2] ?? 'pairwright.vsix';

function run(program, ...given) {
  const done = spawnSync(process.execPath, [program, ...given], { stdio: 'inherit' });
  if (done.status !== 0) {
    process.exit(done.status ?? 1);
  }
}

run('scripts/settings.mjs', '--check');
run('node_modules/typescript/bin/tsc', '-p', '.');
run('node_modules/typescript/bin/tsc', '-p', 'tsconfig.view.json');
run('scripts/build.mjs');
rmSync('bin', { recursive: true, force: true });
if (process.env.PAIRWRIGHT_BUNDLE) {
  mkdirSync('bin');
  copyFileSync(process.env.PAIRWRIGHT_BUNDLE, 'bin/pairwright');
}
copyFileSync('../../LICENSE-MIT', 'LICENSE');
run('node_modules/@vscode/vsce/vsce', 'package', '--no-dependencies', '--allow-missing-repository', '-o', out);
rmSync('LICENSE');
