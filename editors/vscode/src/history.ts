/** The edits there were, in a list: the one that is chosen is taken back, or done again. */
import * as vscode from 'vscode';

import type { Edit } from './protocol';

export const LIST = 'pairwright/diff/history';

const WORDS: Record<Edit['standing'], string> = {
  applied: '$(check) applied',
  rejected: '$(close) rejected',
  taken_back: '$(discard) taken back',
  expired: '$(archive) too old to take back',
  failed: '$(error) not done',
};

/** What turning an edit round does to the files. */
export type Turn = 'took back' | 'did again';

type Item = vscode.QuickPickItem & { edit: Edit };

/** Shows the list until the user leaves it; `turn` rolls back a token. */
export async function chooseEdit(
  request: (method: string, params: object) => Promise<unknown>,
  turn: (token: string, what: Turn) => Promise<unknown>,
): Promise<void> {
  const pick = vscode.window.createQuickPick<Item>();
  pick.title = 'Edits';
  pick.matchOnDescription = true;
  pick.matchOnDetail = true;
  const list = async (): Promise<void> => {
    const { edits } = (await request(LIST, {})) as { edits: Edit[] };
    const at = pick.items.findIndex((item) => item === pick.activeItems[0]);
    pick.items = edits.map(itemOf);
    pick.placeholder = edits.length === 0 ? 'No edits were made here' : 'Take one back, or do it again';
    const same = pick.items[at];
    if (same) {
      pick.activeItems = [same];
    }
  };
  pick.onDidAccept(async () => {
    const edit = pick.selectedItems[0]?.edit;
    if (edit && edit.rollbackToken !== null) {
      await turn(edit.rollbackToken, edit.standing === 'taken_back' ? 'did again' : 'took back');
      // Without a server there is nothing more to choose from.
      await list().catch(() => pick.hide());
    }
  });
  pick.onDidHide(() => pick.dispose());
  try {
    await list();
    pick.show();
  } catch (error) {
    pick.dispose();
    throw error;
  }
}

function itemOf(edit: Edit): Item {
  const { paths, standing, author, at } = edit;
  return {
    edit,
    label: paths.join(', ').replaceAll('$(', '$ ('),
    description: WORDS[standing],
    detail: `${author}, ${new Date(at).toLocaleString()}`.replaceAll('$(', '$ ('),
    iconPath: vscode.ThemeIcon.File,
  };
}
