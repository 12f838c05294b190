/** Entry point: starts the server, and holds what belongs to one session. */
import * as vscode from 'vscode';

import { actions } from './actions';
import type { Client } from './client';
import { commands } from './commands';
import { tellDiagnostics } from './diagnostics';
import { Ghost } from './ghost';
import { Hunks } from './hunks';
import { NextEdits } from './nextEdit';
import type { Panel } from './panel';
import { type Approval, type Decision, type Event, type Status, messageOf } from './protocol';
import { StatusBar } from './status';

/** The view of chats and tasks; its code is loaded when it is first needed. */
const VIEW = 'pairwright.chat';

/** What the server tells, besides its status. */
interface Listeners {
  hunksChanged: () => void;
  event: (event: Event) => void;
  asked: (asked: { task: string } & Approval) => Promise<Decision | null>;
  /** The server is there, or gone. */
  isUp: (isUp: boolean) => void;
  /** A command of the server was run. */
  ran: (command: string, answer: unknown) => void;
}

/**
 * The server of this window, running or not.
 *
 * Holds: starts and ends come one after the other, so there is one server at most, however often it
 * is started anew; one that hangs while it starts holds nothing up.
 */
export class Server implements vscode.Disposable {
  readonly log = vscode.window.createOutputChannel('Pairwright', { log: true });
  status: Status = { busy: true, kind: 'Normal', message: 'Starting' };
  program: string | undefined;
  private client: Client | undefined;
  /** Done when the last start or end that was asked for is. */
  private turn: Promise<void> = Promise.resolve();
  /** A restart that was asked for and has not begun. */
  private restarting: Promise<void> | undefined;
  private readonly bar = new StatusBar();

  constructor(
    private readonly extension: vscode.Extension<unknown>,
    private readonly ghost: Ghost,
    private readonly listeners: Listeners,
  ) {}

  get running(): Client | undefined {
    return this.client;
  }

  start(): Promise<void> {
    return this.inTurn(() => this.begin());
  }

  /** Ends the server and starts it again; what is asked for meanwhile is the same restart. */
  restart(): Promise<void> {
    this.show({ busy: true, kind: 'Normal', message: 'Restarting' });
    return (this.restarting ??= this.inTurn(async () => {
      this.restarting = undefined;
      await this.end();
      await this.begin();
    }));
  }

  stop(): Promise<void> {
    return this.inTurn(() => this.end());
  }

  private inTurn(work: () => Promise<void>): Promise<void> {
    return (this.turn = this.turn.then(work));
  }

  private async end(): Promise<void> {
    const { client } = this;
    this.client = undefined;
    await client?.end();
  }

  /** Finds the server and begins to start it. */
  private async begin(): Promise<void> {
    try {
      // The language client is most of the code; activation does not wait until it is loaded.
      const { State, connect, find } = await import('./client.js');
      const found = await find(this.extension);
      this.program = found.program;
      this.log.info(`Pairwright ${found.version}: ${found.program}`);
      const { hunksChanged, event, asked, isUp, ran } = this.listeners;
      const changed = (change: vscode.TextDocumentChangeEvent): void => this.ghost.changed(change);
      const client = connect(found, this.extension, this.log, { changed, ran });
      this.client = client;
      client.onNotification('didChangeStatus', (status: Status) => this.showOf(client, status));
      client.onNotification('pairwright/diff/changed', hunksChanged);
      client.onNotification('pairwright/event', event);
      client.onRequest('pairwright/approval/request', asked);
      tellDiagnostics(client);
      client.onDidChangeState(({ newState }) => {
        if (newState === State.Stopped) {
          this.showOf(client, { busy: false, kind: 'Error', message: 'The server has ended; see the log' });
          hunksChanged();
        }
        if (newState !== State.Starting) {
          isUp(newState === State.Running);
        }
      });
      // What was proposed before this window was opened still waits.
      client.start().then(hunksChanged, (error: unknown) => {
        if (this.client === client) {
          this.failed(error);
        }
      });
    } catch (error) {
      this.failed(error);
    }
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

  /** Shows what a server says of itself; of one that is being ended, nobody wants to know. */
  private showOf(client: Client, status: Status): void {
    if (client === this.client) {
      this.show(status);
    }
  }

  private show(status: Status): void {
    this.ghost.forget();
    this.status = status;
    this.bar.show(status);
  }

  private failed(error: unknown): void {
    const message = messageOf(error);
    this.log.error(message);
    this.show({ busy: false, kind: 'Error', message });
    void this.tellFailure(message);
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
  let panel: Promise<Panel> | undefined;
  const theirs = (): Promise<Panel> => (panel ??= open(context, started, hunks));
  const started: Server = new Server(context.extension, ghost, {
    hunksChanged: () => void hunks.refresh(),
    event: (event) => void panel?.then((open) => open.take(event)),
    asked: async (asked) => (await theirs()).ask(asked),
    isUp: (isUp) => void panel?.then((open) => open.serverIs(isUp)),
    ran: (command, answer) => {
      const { session, task } = (answer ?? {}) as { session?: string; task?: string };
      if (command === 'pairwright.explainCode' && session !== undefined) {
        void theirs().then((open) => open.begun(session, false));
      } else if (command === 'pairwright.task.start' && task !== undefined) {
        void theirs().then((open) => open.begun(task, true));
      }
    },
  });
  const hunks = new Hunks((method, params) => started.request(method, params));
  const nextEdits = new NextEdits((method, params) => started.request(method, params));
  server = started;
  context.subscriptions.push(
    started,
    hunks,
    nextEdits,
    vscode.window.registerWebviewViewProvider(VIEW, {
      resolveWebviewView: async (view) => (await theirs()).resolve(view),
    }),
    vscode.languages.registerInlineCompletionItemProvider({ pattern: '**' }, ghost),
    vscode.window.onDidChangeActiveTextEditor((editor) => {
      ghost.look();
      if (started.running?.isRunning()) {
        const focus = editor ? { textDocument: { uri: editor.document.uri.toString() } } : {};
        void started.running.sendNotification('textDocument/didFocus', focus);
      }
    }),
    vscode.workspace.onDidGrantWorkspaceTrust(() => void started.restart()),
    vscode.workspace.onDidChangeConfiguration((event) => {
      ghost.look();
      if (event.affectsConfiguration('pairwright.server.path')) {
        void started.restart();
      } else if (event.affectsConfiguration('pairwright')) {
        ghost.forget();
      }
    }),
  );
  for (const name of OF_PANEL) {
    const run = async (): Promise<unknown> => (await theirs()).commands()[name]?.();
    context.subscriptions.push(vscode.commands.registerCommand(name, run));
  }
  const all = { ...commands(started, ghost), ...hunks.commands(), ...nextEdits.commands(), ...actions() };
  for (const [name, command] of Object.entries(all)) {
    context.subscriptions.push(vscode.commands.registerCommand(name, command));
  }
  void vscode.commands.executeCommand('setContext', 'pairwright.active', true);
  // The editor does not wait for the server.
  void started.start();
}

/** Commands of the view, which are there before its code is. */
const OF_PANEL = [
  'pairwright.openChat',
  'pairwright.newChat',
  'pairwright.newTask',
  'pairwright.chatHistory',
  'pairwright.addContext',
  'pairwright.addSelection',
  'pairwright.stopAnswer',
  'pairwright.takeOver',
];

async function open(context: vscode.ExtensionContext, started: Server, hunks: Hunks): Promise<Panel> {
  const { Panel } = await import('./panel.js');
  const request = (method: string, params: object): Promise<unknown> => started.request(method, params);
  const panel = new Panel(context.extensionUri, context.workspaceState, request, hunks);
  context.subscriptions.push(panel);
  panel.serverIs(started.running?.isRunning() ?? false);
  return panel;
}

export async function deactivate(): Promise<void> {
  await server?.stop();
}
