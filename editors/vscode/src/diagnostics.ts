/** What VS Code shows as wrong, told to a task that asks (`pairwright/diagnostics/get`). */

import * as vscode from 'vscode';
import type { LanguageClient } from 'vscode-languageclient/node';

/** Documents, and diagnostics of one, that are told at most. */
const MOST = 200;

interface Asked {
  textDocument?: { uri: string } | null;
}

export function tellDiagnostics(client: LanguageClient): void {
  const { code2ProtocolConverter: told, protocol2CodeConverter: heard } = client;
  client.onRequest('pairwright/diagnostics/get', ({ textDocument }: Asked) => {
    const uri = textDocument ? heard.asUri(textDocument.uri) : undefined;
    const all: [vscode.Uri, vscode.Diagnostic[]][] = uri
      ? [[uri, vscode.languages.getDiagnostics(uri)]]
      : vscode.languages.getDiagnostics();
    const shown = all.filter(([, diagnostics]) => diagnostics.length > 0).slice(0, MOST);
    return shown.map(([uri, diagnostics]) => ({
      uri: told.asUri(uri),
      diagnostics: told.asDiagnosticsSync(diagnostics.slice(0, MOST)),
    }));
  });
}
