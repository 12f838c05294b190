/** Entry point: starts the server, and holds what belongs to one session. */
import * as vscode from 'vscode';
import type { LanguageClient } from 'vscode-languageclient/node';

import { commands } from './commands';
import { Ghost } from './ghost';
import { Hunks } from './hunks';
import type { Status } from './protocol';
import { StatusBar } from './status';

/** The server of this window, running or not. */
export class Server implements vscode.Disposable {
  readonly log = vscode.window.createOutputChannel('Pairwright', { log: true });
  status: Status = { busy: true, kind: 'Normal', message: 'Starting' };
  program: string | undefined;
  private client: LanguageClient | undefined;
  private readonly bar = new StatusBar();

  constructor(
    private readonly extension: vscode.Extension<unknown>,
    private readonly ghost: Ghost,
    private readonly hunksChanged: () => void,
  ) {}

  get running(): LanguageClient | undefined {
    return this.client;
  }

  async start(): Promise<void> {
    try {
      // The language client is most of the code; activation does not wait until it is loaded.
      const { State, connect, find } = await import('./client.js');
      const found = await find(this.extension);
      this.program = found.program;
      this.log.info(`Pairwright ${found.version}: ${found.program}`);
      const client = connect(found, this.extension, this.log, (event) => this.ghost.changed(event));
      this.client = client;
      client.onNotification('didChangeStatus', (status: Status) => this.show(status));
      client.onNotification('pairwright/diff/changed', this.hunksChanged);
      client.onDidChangeState(({ newState }) => {
        if (newState === State.Stopped) {
          this.show({ busy: false, kind: 'Error', message: 'The server has ended; see the log' });
          this.hunksChanged();
        }
      });
      await client.start();
      // What was proposed before this window was opened still waits.
      this.hunksChanged();
    } catch (error) {
      await this.failed(error instanceof Error ? error.message : String(error));
    }
  }

  async restart(): Promise<void> {
    const client = this.client;
    this.client = undefined;
    await client?.dispose().catch(() => undefined);
    this.show({ busy: true, kind: 'Normal', message: 'Starting' });
    await this.start();
  }

  /** Runs a command of the server. */
  run(command: string, given: unknown[]): Promise<unknown> {
    return this.request('workspace/executeCommand', { command, arguments: given });
  }

  async request(method: string, params: object): Promise<unknown> {
    if (!this.client?.isRunning()) {
      throw new Error(`Pairwright is not running: ${this.status.message}`);
    }
    return this.client.sendRequest(method, params);
  }

  dispose(): void {
    this.bar.dispose();
    this.log.dispose();
  }

  async stop(): Promise<void> {
    await this.client?.dispose();
  }

  private show(status: Status): void {
    this.ghost.forget();
    this.status = status;
    this.bar.show(status);
  }

  private async failed(message: string): Promise<void> {
    this.log.error(message);
    this.show({ busy: false, kind: 'Error', message });
    await this.tellFailure(message);
  }

  /** Says why there is no server, and offers what helps. */
  async tellFailure(message: string): Promise<void> {
    const [settings, again] = ['Open Settings', 'Try Again'];
    const choice = await vscode.window.showErrorMessage(`Pairwright: ${message}`, settings, again);
    if (choice === settings) {
      await vscode.commands.executeCommand('workbench.action.openSettings', 'pairwright.server.path');
    } else if (choice === again) {
      await this.restart();
    }
  }
}

let server: Server | undefined;

export function activate(context: vscode.ExtensionContext): void {
  const ghost: Ghost = new Ghost(() => started.running);
  const started: Server = new Server(
    context.extension,
    ghost,
    () => void hunks.refresh(),
  );
  const hunks = new Hunks((method, params) => started.request(method, params));
  server = started;
  context.subscriptions.push(
    started,
    hunks,
    vscode.languages.registerInlineCompletionItemProvider({ pattern: '**' }, ghost),
    vscode.window.onDidChangeActiveTextEditor((editor) => {
      ghost.look();
      if (started.running?.isRunning()) {
        const focus = editor ? { textDocument: { uri: editor.document.uri.toString() } } : {};
        void started.running.sendNotification('textDocument/didFocus', focus);
      }
    }),
    vscode.workspace.onDidChangeConfiguration((event) => {
      ghost.look();
      if (event.affectsConfiguration('pairwright.server.path')) {
        void started.restart();
      } else if (event.affectsConfiguration('pairwright')) {
        ghost.forget();
      }
    }),
  );
  for (const [name, command] of Object.entries({ ...commands(started, ghost), ...hunks.commands() })) {
    context.subscriptions.push(vscode.commands.registerCommand(name, command));
  }
  void vscode.commands.executeCommand('setContext', 'pairwright.active', true);
  // The editor does not wait for the server.
  void started.start();
}

export async function deactivate(): Promise<void> {
  await server?.stop();
}
