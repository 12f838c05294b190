// protocol_client.mjs PROGRAM ROOT MODULES: one session by the reference implementation of the protocol.
//
// The client is vscode-languageserver-protocol by itself: its types, its framing, its cancellation.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createRequire } from 'node:module';
import { join } from 'node:path';

const [program, root, modules] = process.argv.slice(2);
const protocol = createRequire(join(modules, 'here.js'))('vscode-languageserver-protocol/node');
const {
  CancellationTokenSource,
  DidChangeTextDocumentNotification: DidChange,
  DidOpenTextDocumentNotification: DidOpen,
  ExitNotification: Exit,
  InitializeRequest: Initialize,
  InitializedNotification: Initialized,
  InlineCompletionRequest: InlineCompletion,
  InlineCompletionTriggerKind: TriggerKind,
  ShutdownRequest: Shutdown,
} = protocol;

const server = spawn(program, ['lsp'], { stdio: ['pipe', 'pipe', 'inherit'] });
const connection = protocol.createProtocolConnection(server.stdout, server.stdin);
const unexpected = [];
connection.onError((error) => unexpected.push(error));
connection.onUnhandledNotification(({ method }) => unexpected.push(method));
connection.onRequest('workspace/configuration', ({ items }) => items.map(() => null));
connection.onRequest('client/registerCapability', () => null);
connection.onRequest('window/workDoneProgress/create', () => null);
connection.listen();

const uri = `${root}/a.js`;
const { capabilities, serverInfo } = await connection.sendRequest(Initialize.type, {
  processId: process.pid,
  rootUri: root,
  workspaceFolders: [{ uri: root, name: 'workspace' }],
  capabilities: { textDocument: { inlineCompletion: { dynamicRegistration: false } } },
});
assert.equal(serverInfo.name.toLowerCase(), 'pairwright');
assert.ok(capabilities.inlineCompletionProvider);
await connection.sendNotification(Initialized.type, {});
await connection.sendNotification(DidOpen.type, {
  textDocument: { uri, languageId: 'javascript', version: 1, text: 'x=' },
});

function ask(token) {
  const context = { triggerKind: TriggerKind.Invoked };
  const params = { textDocument: { uri }, position: { line: 0, character: 2 }, context };
  return connection.sendRequest(InlineCompletion.type, params, token);
}

const answer = await ask();
const [item] = answer.items ?? answer;
assert.equal(item.insertText, 'x=1 + 2;');
assert.deepEqual(item.range, { start: { line: 0, character: 0 }, end: { line: 0, character: 2 } });
assert.ok(item.command.command);

// An edit, so that nothing is known; what is asked then is taken back.
const end = { line: 0, character: 2 };
await connection.sendNotification(DidChange.type, {
  textDocument: { uri, version: 2 },
  contentChanges: [{ range: { start: { line: 0, character: 0 }, end }, text: 'slow=' }],
});
const source = new CancellationTokenSource();
const begun = performance.now();
const cancelled = connection.sendRequest(
  InlineCompletion.type,
  { textDocument: { uri }, position: { line: 0, character: 5 }, context: { triggerKind: TriggerKind.Invoked } },
  source.token,
);
source.cancel();
await assert.rejects(cancelled, (error) => error.code === protocol.LSPErrorCodes.RequestCancelled);
assert.ok(performance.now() - begun < 1500, 'a request that was taken back is answered at once');

await connection.sendRequest(Shutdown.type);
const exited = new Promise((done) => server.on('exit', done));
await connection.sendNotification(Exit.type);
assert.equal(await exited, 0);
assert.deepEqual(unexpected, []);
