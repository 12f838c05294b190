// profile.mjs PORT: takes a CPU profile of a node process that listens for a debugger.
//
// Writes a line when it has begun, ends with its input, and then writes the profile.
import { once } from 'node:events';

/** Microseconds between samples. */
const INTERVAL = 100;

const [target] = await (await fetch(`http://127.0.0.1:${process.argv[2]}/json`)).json();
const socket = new WebSocket(target.webSocketDebuggerUrl);
await once(socket, 'open');
const waiting = new Map();
socket.addEventListener('message', ({ data }) => {
  const message = JSON.parse(data);
  waiting.get(message.id)?.(message.result);
});

function call(method, params = {}) {
  const id = waiting.size;
  return new Promise((done) => {
    waiting.set(id, done);
    socket.send(JSON.stringify({ id, method, params }));
  });
}

await call('Profiler.enable');
await call('Profiler.setSamplingInterval', { interval: INTERVAL });
await call('Profiler.start');
console.log('begun');
process.stdin.resume();
await once(process.stdin, 'end');
const { profile } = await call('Profiler.stop');
console.log(JSON.stringify(profile));
socket.close();
