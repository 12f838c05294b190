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

/** Makes a tree of those of `keys` (`complete.maxLines`) that are set. Objects are laid over each other, as
 * the editor itself does. */
export function explicit(keys: string[], inspect: (key: string) => Inspected | undefined): Tree {
  const tree: Tree = {};
  for (const key of keys) {
    const known = inspect(key);
    const layers = [known?.globalValue, known?.workspaceValue, known?.workspaceFolderValue];
    const value = layers.reduce(over);
    if (value !== undefined && value !== null) {
      put(tree, key.split('.'), value);
    }
  }
  return tree;
}

/** `stronger` laid over `weaker`. */
function over(weaker: unknown, stronger: unknown): unknown {
  if (!isTree(weaker) || !isTree(stronger)) {
    return stronger ?? weaker;
  }
  const merged = { ...weaker };
  for (const [key, value] of Object.entries(stronger)) {
    merged[key] = over(weaker[key], value);
  }
  return merged;
}

function isTree(value: unknown): value is Tree {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
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
