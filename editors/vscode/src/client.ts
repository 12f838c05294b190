/** The server's process and the connection to it. */
import * as vscode from 'vscode';
import {
  type DynamicFeature,
  type ErrorHandler,
  type LanguageClientOptions,
  CloseAction,
  ErrorAction,
  LanguageClient,
  type MessageTransports,
  RevealOutputChannelOn,
  type ServerOptions,
  State,
  type StaticFeature,
  TransportKind,
} from 'vscode-languageclient/node';

import { Changes, DID_CHANGE } from './changes';
import { INLINE_COMPLETION } from './protocol';
import { type Found, check, locate } from './server';
import { type Inspected, type Tree, explicit } from './settings';
import { Writer } from './writer';

export { State };

/** The settings of the server that the user has made. */
export function settings(extension: vscode.Extension<unknown>): Tree {
  const properties = extension.packageJSON.contributes.configuration.properties as object;
  const keys = Object.keys(properties)
    .filter((name) => !name.startsWith('pairwright.server.'))
    .map((name) => name.slice('pairwright.'.length));
  const configuration = vscode.workspace.getConfiguration('pairwright');
  const made = explicit(keys, (key) => configuration.inspect(key) as Inspected | undefined);
  // Trust is granted to a whole window, and once: then the server is started anew. What the window
  // trusts is trusted here without a second question.
  return vscode.workspace.isTrusted
    ? { workspace: { trusted: ['/'] }, ...made }
    : { ...made, workspace: { trusted: [] } };
}

/** Finds the program.
 * @throws NoServer with what to do when there is none. */
export async function find(extension: vscode.Extension<unknown>): Promise<Found> {
  const setting = vscode.workspace.getConfiguration('pairwright').get<string>('server.path');
  const name = process.platform === 'win32' ? 'pairwright.exe' : 'pairwright';
  const bundled = vscode.Uri.joinPath(extension.extensionUri, 'bin', name).fsPath;
  return check(await locate({ setting, path: process.env['PATH'], bundled }));
}

/** Who hears what the client does. */
export interface Listeners {
  /** The server was told of a change. */
  changed: (event: vscode.TextDocumentChangeEvent) => void;
  /** A command of the server was run, by an action or by us. */
  ran: (command: string, answer: unknown) => void;
}

/** How long a server that starts is waited for before it is ended all the same, in milliseconds. */
const START = 5000;

export class Client extends LanguageClient {
  isEnding = false;

  /** Ends the server for good. One that is starting cannot be told to end, so that is waited for; one
   * that does not answer is killed. */
  async end(): Promise<void> {
    this.isEnding = true;
    if (this.state === State.Starting) {
      const started = this.start().catch(() => undefined);
      await Promise.race([started, new Promise((done) => setTimeout(done, START))]);
    }
    const { serverProcess } = this;
    await this.dispose().catch(() => serverProcess?.kill('SIGKILL'));
  }

  /** Leaves out the library's ghost text, as ours comes from `ghost.ts` and VS Code would ask both, and
   * its changes of documents, of which `changes.ts` tells. */
  override registerFeature(feature: StaticFeature | DynamicFeature<unknown>): void {
    const method = 'registrationType' in feature ? feature.registrationType.method : undefined;
    if (method !== INLINE_COMPLETION && method !== DID_CHANGE) {
      super.registerFeature(feature);
    }
  }

  protected override async createMessageTransports(encoding: string): Promise<MessageTransports> {
    const transports = await super.createMessageTransports(encoding);
    const stdin = this.serverProcess?.stdin;
    return stdin ? { ...transports, writer: new Writer(stdin) } : transports;
  }
}

/** Makes the client of a server that is not started yet. */
export function connect(
  found: Found,
  extension: vscode.Extension<unknown>,
  log: vscode.LogOutputChannel,
  { changed, ran }: Listeners,
): Client {
  const server: ServerOptions = {
    command: found.program,
    args: ['lsp'],
    transport: TransportKind.stdio,
  };
  const options: LanguageClientOptions = {
    documentSelector: [
      { scheme: 'file' },
      { scheme: 'untitled' },
      { scheme: 'vscode-remote' },
      { notebook: '*' },
    ],
    initializationOptions: settings(extension),
    outputChannel: log,
    // The status bar tells what is wrong; every message that is lost is only logged.
    revealOutputChannelOn: RevealOutputChannelOn.Never,
    errorHandler: {
      // A message that a dying server does not read; its end follows, and starts it again. The
      // client's own handler would stop here for good.
      error: () => ({ action: ErrorAction.Continue, handled: true }),
      closed: () => (client.isEnding ? { action: CloseAction.DoNotRestart, handled: true } : usual.closed()),
    },
    middleware: {
      didOpen: (document, next) => {
        changes.opened(document);
        return next(document);
      },
      didClose: (document, next) => {
        changes.closed(document);
        return next(document);
      },
      executeCommand: async (command, given, next) => {
        const answer: unknown = await next(command, given);
        ran(command, answer);
        return answer;
      },
      workspace: {
        configuration: (params) =>
          params.items.map(({ section }) => (section === 'pairwright' ? settings(extension) : null)),
        didChangeConfiguration: async () => {
          await client.sendNotification('workspace/didChangeConfiguration', {
            settings: { pairwright: settings(extension) },
          });
        },
      },
    },
  };
  const client = new Client('pairwright', 'Pairwright', server, options);
  const usual: ErrorHandler = client.createDefaultErrorHandler();
  const changes = new Changes(client, changed);
  client.registerFeature(changes);
  client.registerFeature({
    fillClientCapabilities: (capabilities) => {
      const ours = { pairwright: { status: true, hunks: true, events: true, approvals: true, diagnostics: true } };
      (capabilities.textDocument ??= {}).inlineCompletion = { dynamicRegistration: false };
      capabilities.experimental = { ...(capabilities.experimental as object | undefined), ...ours };
    },
    initialize: () => undefined,
    getState: () => ({ kind: 'static' }),
    clear: () => undefined,
  });
  return client;
}
