type M = Map<string, number>;
const a: M = new Map<string, number>();
const b = a.size > 1 && a.size < 8;
export { a, b };
