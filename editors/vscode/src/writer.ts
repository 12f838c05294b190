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
  private isGathering = false;

  constructor(private readonly stream: Writable) {
    super(stream);
  }

  /** Resolves at once: what follows from a message need not wait until the pipe has it. That it
   * never had it is told by `onError`. Messages go out in the order in which this is called. */
  override write(message: Message): Promise<void> {
    this.gather();
    this.stream.write(framed(message), (error) => {
      if (error) {
        this.nFailed += 1;
        this.fireError(error, message, this.nFailed);
      }
    });
    return Promise.resolve();
  }

  /** Holds messages until all that is under way in this turn has been done. */
  private gather(): void {
    if (this.isGathering) {
      return;
    }
    this.isGathering = true;
    this.stream.cork();
    setImmediate(() => {
      this.isGathering = false;
      this.stream.uncork();
    });
  }
}
