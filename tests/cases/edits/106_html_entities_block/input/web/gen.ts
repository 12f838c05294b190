type M = Map<string, number>;
const a: M = new Map<string, number>();
const b = a.size > 0 && a.size < 9;
export { a, b };
