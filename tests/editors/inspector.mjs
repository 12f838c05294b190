// inspector.mjs PORT: passes calls on to a node process that listens for a debugger.
//
// Each line of input is a call, `{"method", "params"}`; each line of output is its result.
import { once } from 'node:events';
import { createInterface } from 'node:readline';

const [target] = await (await fetch(`http://127.0.0.1:${process.argv[2]}/json`)).json();
const socket = new WebSocket(target.webSocketDebuggerUrl);
await once(socket, 'open');
const waiting = new Map();
socket.addEventListener('message', ({ data }) => {
  const { id, result } = JSON.parse(data);
  waiting.get(id)?.(result);
});

let id = 0;
for await (const line of createInterface({ input: process.stdin })) {
  id += 1;
  const result = new Promise((done) => waiting.set(id, done));
  socket.send(JSON.stringify({ id, ...JSON.parse(line) }));
  console.log(JSON.stringify((await result) ?? null));
}
socket.close();
