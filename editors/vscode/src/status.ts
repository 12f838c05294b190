/** The state of the server in the status bar, with the reason. */
import * as vscode from 'vscode';

import type { Status } from './protocol';

const icons: Record<Status['kind'], string> = {
  Normal: '$(check)',
  Warning: '$(warning)',
  Error: '$(error)',
  Inactive: '$(circle-slash)',
};

export class StatusBar implements vscode.Disposable {
  private readonly item = vscode.window.createStatusBarItem(
    'pairwright.status',
    vscode.StatusBarAlignment.Right,
    100,
  );

  constructor() {
    this.item.name = 'Pairwright';
    this.item.command = 'pairwright.menu';
    this.show({ busy: true, kind: 'Normal', message: 'Starting' });
    this.item.show();
  }

  show(status: Status): void {
    const icon = status.busy ? '$(sync~spin)' : icons[status.kind];
    this.item.text = `${icon} Pairwright`;
    const lines = [status.message];
    if (status.mode !== undefined) {
      lines.push(`Task: ${status.mode}`);
    }
    if (status.sandbox !== undefined) {
      lines.push(`Last sandbox: ${status.sandbox}`);
    }
    if (status.pendingFiles !== undefined) {
      lines.push(`Index: ${status.pendingFiles} files behind`);
    }
    this.item.tooltip = lines.join('\n');
    this.item.accessibilityInformation = { label: `Pairwright: ${status.message}` };
    this.item.backgroundColor =
      status.kind === 'Error' ? new vscode.ThemeColor('statusBarItem.errorBackground') : undefined;
  }

  dispose(): void {
    this.item.dispose();
  }
}
