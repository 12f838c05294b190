/**
 * The view of chats and tasks: its page, what the page asks for, and what belongs to it in the
 * palette.
 *
 * Holds: the page runs our script alone and loads nothing; what it asks for is what a user can do.
 * A page that was hidden is told everything again.
 */
import { randomBytes } from 'node:crypto';

import * as vscode from 'vscode';

import { Context } from './context';
import type { Hunks } from './hunks';
import { target } from './links';
import { type Approval, type Decision, type Event, type Mode, messageOf } from './protocol';
import { Sessions } from './sessions';
import type { ToExtension, ToView } from './view/messages';

const VIEW = 'pairwright.chat';
/** Where the session that is shown is remembered for the next window. */
const SHOWN = 'pairwright.session';

type Request = (method: string, params: object) => Promise<unknown>;

export class Panel implements vscode.Disposable {
  private view: vscode.WebviewView | undefined;
  /** What the page is to be told once it is there. */
  private waiting: ToView[] = [];
  private isReady = false;
  private readonly sessions: Sessions;
  private readonly context = new Context((chips) => this.tell({ type: 'chips', chips }));

  constructor(
    private readonly extension: vscode.Uri,
    private readonly memory: vscode.Memento,
    private readonly request: Request,
    private readonly hunks: Hunks,
  ) {
    this.sessions = new Sessions(request, {
      clear: () => this.tell({ type: 'clear' }),
      events: (events) => this.tell({ type: 'events', events }),
      going: (going) => this.tell({ type: 'going', going }),
      chosen: (session) => void memory.update(SHOWN, session),
    });
  }

  resolve(view: vscode.WebviewView): void {
    this.view = view;
    this.isReady = false;
    const files = vscode.Uri.joinPath(this.extension, 'dist');
    view.webview.options = { enableScripts: true, localResourceRoots: [files] };
    view.webview.html = page(view.webview, files);
    view.webview.onDidReceiveMessage((message: ToExtension) => this.failing(() => this.heard(message)));
    view.onDidDispose(() => {
      this.view = undefined;
      this.isReady = false;
    });
    this.showWaiting();
  }

  /** The server is there, or gone. */
  serverIs(isUp: boolean): void {
    void this.failing(async () => {
      const known = this.memory.get<string>(SHOWN);
      await this.sessions.serverIs(isUp);
      if (isUp && known !== undefined && this.sessions.current === undefined) {
        // What is no longer kept is no reason to show nothing else.
        await this.sessions.show(known).catch(() => this.sessions.show(undefined));
      }
      this.showWaiting();
    });
  }

  take(event: Event): void {
    void this.failing(() => this.sessions.take(event));
    this.showWaiting();
  }

  /** Asks the user what a task asks. */
  async ask(params: { task: string } & Approval): Promise<Decision | null> {
    const decided = this.sessions.asked(params.task, params);
    this.showWaiting();
    if (this.view?.visible !== true || this.sessions.current !== params.task) {
      const show = 'Show';
      void vscode.window.showInformationMessage('Pairwright: a task asks for a decision', show).then((choice) => {
        if (choice === show) {
          void this.open(params.task);
        }
      });
    }
    return decided;
  }

  /** Shows what a command of the server began. */
  async begun(session: string, isTask: boolean): Promise<void> {
    await vscode.commands.executeCommand(`${VIEW}.focus`);
    await this.failing(() => this.sessions.begun(session, isTask));
  }

  commands(): Record<string, () => unknown> {
    return {
      'pairwright.openChat': () => this.write({}),
      'pairwright.newChat': () => this.write({ mode: 'ask' }, true),
      'pairwright.newTask': () => this.write({ mode: 'review' }, true),
      'pairwright.chatHistory': () => this.failing(() => this.history()),
      'pairwright.addContext': () => this.context.add(),
      'pairwright.addSelection': async () => {
        this.context.addSelection();
        await this.write({});
      },
      'pairwright.stopAnswer': () => this.failing(() => this.sessions.stop()),
      'pairwright.takeOver': () => this.failing(() => this.takeOver()),
    };
  }

  dispose(): void {
    this.context.dispose();
  }

  private async open(session: string): Promise<void> {
    await vscode.commands.executeCommand(`${VIEW}.focus`);
    await this.failing(() => this.sessions.show(session));
  }

  /** Puts the cursor where the user writes. */
  private async write(how: { mode?: Mode | 'ask' }, isNew = false): Promise<void> {
    await vscode.commands.executeCommand(`${VIEW}.focus`);
    if (isNew) {
      this.context.clear();
      await this.sessions.show(undefined);
    }
    this.tell({ type: 'write', ...how });
  }

  private async heard(message: ToExtension): Promise<void> {
    switch (message.type) {
      case 'ready':
        await this.ready();
        break;
      case 'send':
        await this.send(message);
        break;
      case 'stop':
        await this.sessions.stop();
        break;
      case 'takeOver':
        await this.takeOver();
        break;
      case 'pause':
        await this.sessions.pause();
        break;
      case 'resume':
        await this.sessions.resume();
        break;
      case 'addContext':
        await this.context.add();
        break;
      case 'removeChip':
        this.context.remove(message.id);
        break;
      case 'review':
        await this.review(message.answer);
        break;
      case 'copy':
        await vscode.env.clipboard.writeText(message.text);
        break;
      case 'open':
        await open(message.to);
        break;
      case 'hunks':
        await this.hunks.review(message.proposal);
        break;
      case 'rollBack':
        await this.hunks.rollBack(message.token);
        break;
      case 'decide': {
        const { approval, decision, scope, text } = message;
        this.sessions.decide(approval, {
          decision,
          ...(scope === undefined ? {} : { scope }),
          ...(text === undefined ? {} : { text }),
        });
        this.showWaiting();
        break;
      }
    }
  }

  /** Ends the task and goes to what it has changed so far, to be decided and gone on with by hand. */
  private async takeOver(): Promise<void> {
    const left = await this.sessions.takeOver();
    if (left?.proposal !== undefined) {
      await this.hunks.review(left.proposal);
    } else if (left) {
      const message = 'Pairwright: the task has left no hunks; its last lines say what it changed';
      vscode.window.setStatusBarMessage(message, 5000);
    }
  }

  private async ready(): Promise<void> {
    const { waiting } = this;
    this.waiting = [];
    this.isReady = true;
    this.context.tell(true);
    // First, so that it is in force when the user can send.
    waiting.forEach((message) => this.tell(message));
    await this.sessions.retell();
  }

  private async send({ text, mode }: Extract<ToExtension, { type: 'send' }>): Promise<void> {
    try {
      await this.sessions.say({ text, mode, ...this.context.given() });
      this.context.sent();
    } catch (error) {
      this.tell({ type: 'failed', message: messageOf(error), text });
    }
  }

  /** Makes hunks of a block of an answer, and goes to the first. */
  private async review(answer: string): Promise<void> {
    const { place } = this.context.given();
    const { proposal } = (await this.request('pairwright/diff/preview', {
      answer,
      author: 'chat',
      ...(place && { textDocument: place }),
    })) as { proposal: string };
    await this.hunks.review(proposal);
  }

  private async history(): Promise<void> {
    const close = { iconPath: new vscode.ThemeIcon('close'), tooltip: 'Stop and close' };
    const pick = vscode.window.createQuickPick<vscode.QuickPickItem & { id: string }>();
    pick.title = 'Chats and tasks';
    pick.matchOnDescription = true;
    const list = async (): Promise<void> => {
      pick.items = (await this.sessions.list()).map(({ id, title, created, state }) => ({
        id,
        label: title === '' ? 'Untitled' : title.replaceAll('$(', '$ ('),
        description: `${new Date(created).toLocaleString()}${state === null ? '' : ` · task, ${state.replaceAll('_', ' ')}`}`,
        buttons: [close],
      }));
    };
    await list();
    pick.onDidTriggerItemButton(({ item }) =>
      this.failing(async () => {
        await this.sessions.close(item.id);
        await list();
      }),
    );
    pick.onDidAccept(() => {
      const [chosen] = pick.selectedItems;
      pick.hide();
      if (chosen) {
        void this.open(chosen.id);
      }
    });
    pick.onDidHide(() => pick.dispose());
    pick.show();
  }

  /** Runs what may fail, and says so where it does. */
  private async failing(work: () => Promise<unknown>): Promise<void> {
    try {
      await work();
    } catch (error) {
      const message = messageOf(error);
      if (this.view?.visible === true) {
        this.tell({ type: 'failed', message });
      } else {
        void vscode.window.showWarningMessage(`Pairwright: ${message}`);
      }
    }
  }

  private tell(message: ToView): void {
    if (this.isReady) {
      void this.view?.webview.postMessage(message);
    } else if (message.type === 'write') {
      // Everything else is told when the page is there.
      this.waiting.push(message);
    }
  }

  private showWaiting(): void {
    if (this.view) {
      const value = this.sessions.waiting;
      this.view.badge = value === 0 ? undefined : { value, tooltip: `${value} questions of tasks` };
    }
  }
}

/** Opens what a link of an answer names: a file of the workspace, or after the editor has asked the
 * user, a page of the web. */
async function open(to: string): Promise<void> {
  const folders = (vscode.workspace.workspaceFolders ?? []).map(({ uri }) => uri.fsPath);
  const found = target(to, folders);
  if (found === undefined) {
    throw new Error(`This link leads to no file of the workspace: ${to.slice(0, 200)}`);
  }
  if (found.type === 'web') {
    await vscode.env.openExternal(vscode.Uri.parse(found.url, true));
    return;
  }
  const line = Math.max((found.line ?? 1) - 1, 0);
  const selection = new vscode.Range(line, 0, line, 0);
  await vscode.window.showTextDocument(vscode.Uri.file(found.path), found.line === undefined ? {} : { selection });
}

function page(webview: vscode.Webview, files: vscode.Uri): string {
  const nonce = randomBytes(16).toString('base64');
  const policy = `default-src 'none'; script-src 'nonce-${nonce}'; style-src ${webview.cspSource}; base-uri 'none'; form-action 'none'`;
  const uri = (name: string): string => webview.asWebviewUri(vscode.Uri.joinPath(files, name)).toString();
  return `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<title>Pairwright</title>
<link rel="stylesheet" href="${uri('view.css')}">
</head>
<body>
<section id="task" aria-label="Task" hidden></section>
<p id="cut" class="note" hidden>Not all of it is shown; the record has it: <code>pairwright audit</code>.</p>
<main id="log" role="log" aria-label="Conversation" aria-live="polite" tabindex="0"></main>
<p id="welcome" class="note" hidden>Ask about this code, or begin a task: what it would change comes as
hunks to accept or reject. Without a model, search answers.</p>
<form id="form">
<div id="failed" role="alert" hidden></div>
<ul id="chips" class="plain chips" aria-label="Goes with the question"></ul>
<textarea id="draft" rows="3"></textarea>
<div class="buttons">
<select id="mode" aria-label="What to begin">
<option value="ask">Ask</option>
<option value="review">Task: propose hunks</option>
<option value="auto">Task: apply at the end</option>
<option value="plan">Task: only a plan</option>
<option value="read-only">Task: only look</option>
</select>
<button id="send" class="first" type="submit">Send</button>
<span id="controls" class="buttons"></span>
</div>
</form>
<script nonce="${nonce}" src="${uri('view.js')}"></script>
</body>
</html>`;
}
