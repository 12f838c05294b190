/**
 * The settings that the user has made, without defaults.
 *
 * The server has defaults of its own and reads a settings file; sending it this editor's defaults
 * would overrule that file.
 */

/** What the editor knows of one key, strongest last. */
export interface Inspected {
  globalValue?: unknown;
  workspaceValue?: unknown;
  workspaceFolderValue?: unknown;
}

export type Tree = { [key: string]: unknown };

/** Makes a tree of those of `keys` (`complete.maxLines`) that are set. */
export function explicit(keys: string[], inspect: (key: string) => Inspected | undefined): Tree {
  const tree: Tree = {};
  for (const key of keys) {
    const known = inspect(key);
    const value = known?.workspaceFolderValue ?? known?.workspaceValue ?? known?.globalValue;
    if (value !== undefined && value !== null) {
      put(tree, key.split('.'), value);
    }
  }
  return tree;
}

function put(tree: Tree, path: string[], value: unknown): void {
  const [first, ...rest] = path;
  if (first === undefined) {
    return;
  }
  if (rest.length === 0) {
    tree[first] = value;
    return;
  }
  const inner = (tree[first] ??= {}) as Tree;
  put(inner, rest, value);
}
