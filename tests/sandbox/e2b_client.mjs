// The local sandbox service, as E2B's own unmodified client for JavaScript sees it.
//
//     cp tests/sandbox/package*.json tests/sandbox/e2b_client.mjs DIR && (cd DIR && npm ci)
//     node DIR/e2b_client.mjs target/debug/pairwright
//
// Starts `pairwright sandboxd`, runs every check below, and exits with 1 when one fails.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { CommandExitError, NotFoundError, Sandbox, TimeoutError } from "e2b";

async function start(program) {
  const key = join(mkdtempSync(join(tmpdir(), "sandboxd-")), "key");
  const service = spawn(program, ["sandboxd", "--listen", "127.0.0.1:0", "--key-file", key], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const line = await new Promise((tell) =>
    createInterface({ input: service.stdout }).once("line", tell),
  );
  const address = line.replace("listening on ", "").trim();
  process.env.E2B_API_KEY = readFileSync(key, "utf8").trim();
  process.env.E2B_API_URL = address;
  process.env.E2B_SANDBOX_URL = address;
  return service;
}

const checks = {
  async commands(sandbox) {
    const done = await sandbox.commands.run("echo out; echo err >&2");
    assert.deepEqual([done.stdout, done.stderr, done.exitCode], ["out\n", "err\n", 0]);
  },
  async exitCode(sandbox) {
    const failed = sandbox.commands.run("echo no >&2; exit 3");
    await assert.rejects(failed, (error) => {
      assert(error instanceof CommandExitError);
      assert.deepEqual([error.exitCode, error.stderr], [3, "no\n"]);
      return true;
    });
  },
  async environmentAndDirectory(sandbox) {
    const done = await sandbox.commands.run("echo $A; pwd", { envs: { A: "given" }, cwd: "/tmp" });
    assert.equal(done.stdout, "given\n/tmp\n");
  },
  async streaming(sandbox) {
    const pieces = [];
    const onStdout = (piece) => void pieces.push(piece);
    await sandbox.commands.run("for n in 1 2 3; do echo $n; done", { onStdout });
    assert.equal(pieces.join(""), "1\n2\n3\n");
  },
  async backgroundInputAndKill(sandbox) {
    const options = { background: true, stdin: true };
    const handle = await sandbox.commands.run("cat; sleep 300", options);
    await sandbox.commands.sendStdin(handle.pid, "typed\n");
    const pids = async () => (await sandbox.commands.list()).map((process) => process.pid);
    assert((await pids()).includes(handle.pid));
    assert(await sandbox.commands.kill(handle.pid));
    await assert.rejects(handle.wait());
    assert(!(await pids()).includes(handle.pid));
    assert.equal(await sandbox.commands.kill(99999), false);
  },
  async reattach(sandbox) {
    const handle = await sandbox.commands.run("sleep 1; echo later", { background: true });
    await handle.disconnect();
    const again = await sandbox.commands.connect(handle.pid);
    assert.equal((await again.wait()).stdout, "later\n");
  },
  async timeout(sandbox) {
    await assert.rejects(sandbox.commands.run("sleep 30", { timeoutMs: 1000 }), TimeoutError);
  },
  async files(sandbox) {
    const bytes = new Uint8Array(200_000).map((_, n) => n % 251);
    await sandbox.files.write("/home/user/a/b.txt", "text");
    await sandbox.files.write("bytes", bytes.buffer);
    assert.equal(await sandbox.files.read("/home/user/a/b.txt"), "text");
    assert.deepEqual(await sandbox.files.read("bytes", { format: "bytes" }), bytes);
    assert((await sandbox.files.exists("a/b.txt")) && !(await sandbox.files.exists("none")));
    assert.deepEqual(
      (await sandbox.files.list("a")).map((entry) => entry.name),
      ["b.txt"],
    );
    assert((await sandbox.files.makeDir("a/c")) && !(await sandbox.files.makeDir("a/c")));
    assert.equal((await sandbox.files.rename("a/b.txt", "a/c/d.txt")).name, "d.txt");
    await sandbox.files.remove("a");
    assert(!(await sandbox.files.exists("a")));
    await assert.rejects(sandbox.files.read("/none"), NotFoundError);
  },
  async allowedHosts() {
    const other = await Sandbox.create({
      timeoutMs: 60_000,
      network: { allowOut: ["host.invalid"] },
    });
    const ask = (host) =>
      `python3 -c "import http.client as h; c = h.HTTPConnection('127.0.0.1', 3128);` +
      ` c.request('GET', 'http://${host}/', headers={'Host': '${host}'});` +
      ` print(c.getresponse().status)"`;
    // Allowed and not there, not allowed, never allowed.
    const expected = { "host.invalid": 502, "b.invalid": 403, "169.254.169.254": 403 };
    for (const [host, status] of Object.entries(expected)) {
      assert.equal((await other.commands.run(ask(host))).stdout, `${status}\n`, host);
    }
    await other.kill();
  },
  async lifetime(sandbox) {
    assert(await sandbox.isRunning());
    await sandbox.setTimeout(120_000);
    assert.equal((await sandbox.getInfo()).sandboxId, sandbox.sandboxId);
  },
  async listing(sandbox) {
    const found = [];
    const pages = Sandbox.list();
    while (pages.hasNext) found.push(...(await pages.nextItems()));
    assert(found.some((info) => info.sandboxId === sandbox.sandboxId));
  },
  async connecting(sandbox) {
    await sandbox.files.write("shared", "seen");
    const again = await Sandbox.connect(sandbox.sandboxId);
    assert.equal(await again.files.read("shared"), "seen");
  },
  async manyAtOnce(sandbox) {
    const numbers = Array.from({ length: 20 }, (_, n) => n);
    const said = await Promise.all(
      numbers.map(async (n) => (await sandbox.commands.run(`echo ${n}`)).stdout),
    );
    assert.deepEqual(said, numbers.map((n) => `${n}\n`));
  },
  async killed(sandbox) {
    assert(await sandbox.kill());
    assert.equal(await sandbox.isRunning(), false);
    await assert.rejects(sandbox.commands.run("true"));
    assert.equal(await Sandbox.kill(sandbox.sandboxId), false);
  },
};

const service = await start(process.argv[2]);
let failed = 0;
try {
  const sandbox = await Sandbox.create({ timeoutMs: 60_000 });
  for (const [name, check] of Object.entries(checks)) {
    const began = performance.now();
    let word = "ok";
    try {
      await check(sandbox);
    } catch (error) {
      console.error(error);
      word = "FAILED";
      failed += 1;
    }
    console.log(`${name}: ${word} (${(performance.now() - began).toFixed(0)} ms)`);
  }
} finally {
  service.kill("SIGTERM");
}
process.exit(failed ? 1 : 0);
