export interface Item {
  id: number;
  label: string;
}

export function labels(items: Item[]): string[] {
  const out: string[] = [];
  for (const item of items) {
    out.push(item.label);
  }
  return out;
}
