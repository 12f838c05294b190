export interface Item {
  id: number;
  label: string;
}

export function labels(items: Item[]): string[] {
  return items.map((item) => item.label);
}