/**
 * Writes messages to the server: those of one turn of the event loop together.
 *
 * The library's own writer gives the pipe the head and the body of a message apart, and every
 * message a turn of the event loop of its own. With a key come two or three messages, and that was
 * most of what a key cost: each write wakes the server, which then may take the core.
 *
 * Holds: messages go out in the order in which they were written, before the writer ends.
 */
import type { Writable } from 'node:stream';

import { type Message, StreamMessageWriter } from 'vscode-languageclient/node';

import { framed } from './frame';

export class Writer extends StreamMessageWriter {
  private nFailed = 0;
  private waiting: string[] = [];
  private last: Message | undefined;

  constructor(private readonly stream: Writable) {
    super(stream);
  }

  /** Resolves at once: what follows from a message need not wait until the pipe has it. That it
   * never had it is told by `onError`. */
  override write(message: Message): Promise<void> {
    if (this.waiting.push(framed(message)) === 1) {
      setImmediate(() => this.flush());
    }
    this.last = message;
    return Promise.resolve();
  }

  override end(): void {
    this.flush();
    super.end();
  }

  private flush(): void {
    const { waiting, last } = this;
    if (waiting.length === 0) {
      return;
    }
    this.waiting = [];
    this.last = undefined;
    this.stream.write(waiting.join(''), (error) => {
      if (error) {
        this.nFailed += 1;
        this.fireError(error, last, this.nFailed);
      }
    });
  }
}
