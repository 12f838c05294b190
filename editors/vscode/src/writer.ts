/**
 * Writes messages to the server: those of one turn of the event loop in one go.
 *
 * The library's own writer gives the pipe the head and the body of a message apart, and every
 * message a turn of the event loop of its own. With a key come two or three messages, each of which
 * wakes the server, and that was most of what a key cost.
 */
import type { Writable } from 'node:stream';

import { type Message, StreamMessageWriter } from 'vscode-languageclient/node';

import { framed } from './frame';

export class Writer extends StreamMessageWriter {
  private nFailed = 0;
  private waiting = '';
  private last: Message | undefined;

  constructor(private readonly stream: Writable) {
    super(stream);
  }

  /** Resolves at once: what follows from a message need not wait until the pipe has it. That it
   * never had it is told by `onError`. Messages go out in the order in which this is called. */
  override write(message: Message): Promise<void> {
    if (this.waiting === '') {
      setImmediate(() => this.flush());
    }
    this.waiting += framed(message);
    this.last = message;
    return Promise.resolve();
  }

  override end(): void {
    this.flush();
    super.end();
  }

  private flush(): void {
    const { waiting, last } = this;
    if (waiting === '') {
      return;
    }
    this.waiting = '';
    this.stream.write(waiting, (error) => {
      if (error) {
        this.nFailed += 1;
        this.fireError(error, last, this.nFailed);
      }
    });
  }
}
