/**
 * Writes messages to the server, each in one go.
 *
 * The library's own writer gives the pipe the head and the body of a message apart, and every
 * message a turn of the event loop of its own. With a key come two or three messages, and that was
 * most of what a key cost.
 */
import type { Writable } from 'node:stream';

import { type Message, StreamMessageWriter } from 'vscode-languageclient/node';

import { framed } from './frame';

export class Writer extends StreamMessageWriter {
  private nFailed = 0;

  constructor(private readonly stream: Writable) {
    super(stream);
  }

  /** Resolves once the pipe has taken it. Messages go out in the order in which this is called. */
  override write(message: Message): Promise<void> {
    return new Promise((done, failed) => {
      this.stream.write(framed(message), (error) => {
        if (error) {
          this.nFailed += 1;
          this.fireError(error, message, this.nFailed);
          failed(error);
        } else {
          done();
        }
      });
    });
  }
}
