/**
 * The last answer, for as long as what is typed continues it.
 *
 * Holds: while the user types what is shown, the answer is known and nobody is asked. Nothing here
 * knows the editor.
 */
import type { Item } from './protocol';

/** Where a question is asked: the document and the line around the cursor. */
export interface Place {
  uri: string;
  line: number;
  before: string;
  after: string;
}

export class Remembered {
  private place: Place | undefined;
  private items: Item[] = [];

  get isEmpty(): boolean {
    return this.items.length === 0;
  }

  keep(place: Place, items: Item[]): void {
    this.place = place;
    this.items = items;
  }

  forget(): void {
    this.place = undefined;
    this.items = [];
  }

  /** The items that continue the text at `place`, their ranges up to the cursor; empty when there
   * are none, or more was changed than was typed or deleted before the cursor. */
  fitting(place: Place): Item[] {
    const known = this.place;
    if (
      known === undefined ||
      known.uri !== place.uri ||
      known.line !== place.line ||
      known.after !== place.after
    ) {
      return [];
    }
    const moved = place.before.length - known.before.length;
    return this.items
      .filter((item) => continues(item, place))
      .map((item) => {
        const end = { line: item.range.end.line, character: item.range.end.character + moved };
        return { ...item, range: { start: item.range.start, end } };
      });
  }
}

/** Whether `item` has more to say than what stands before the cursor. */
export function continues(item: Item, place: Place): boolean {
  const { start } = item.range;
  if (start.line !== place.line || start.character > place.before.length) {
    return false;
  }
  const typed = place.before.slice(start.character);
  return item.insertText.startsWith(typed) && item.insertText.length > typed.length;
}
