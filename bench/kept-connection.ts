import { connect, type Socket } from 'node:net';

/** Calls on one connection to an agent's socket that is kept, as an orchestrator makes them: one after another. */
export class KeptConnection {
  readonly #socket: Socket;
  #text = '';
  #waiting: { resolve: (answer: string) => void; reject: (error: Error) => void } | undefined;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.setEncoding('utf8');
    socket.on('data', (part: string) => this.#read(part));
    socket.on('close', () => this.#waiting?.reject(new Error('the agent closed the connection')));
  }

  static open(path: string): Promise<KeptConnection> {
    return new Promise((resolve, reject) => {
      const socket = connect({ path });
      socket.once('error', reject);
      socket.once('connect', () => resolve(new KeptConnection(socket)));
    });
  }

  /** Errors: Error with the answer, where it is none of success. */
  async post(path: string, body: unknown): Promise<unknown> {
    const text = JSON.stringify(body);
    const answer = new Promise<string>((resolve, reject) => {
      this.#waiting = { resolve, reject };
    });
    const head = `POST ${path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json`;
    this.#socket.write(`${head}\r\ncontent-length: ${Buffer.byteLength(text)}\r\n\r\n${text}`);
    const whole = await answer;
    if (!whole.startsWith('HTTP/1.1 200 ')) throw new Error(whole);
    return JSON.parse(whole.slice(whole.indexOf('\r\n\r\n')));
  }

  close(): void {
    this.#socket.end();
  }

  #read(part: string): void {
    this.#text += part;
    const end = this.#text.indexOf('\r\n\r\n');
    const [, length] = /\r\ncontent-length: (\d+)\r\n/i.exec(this.#text) ?? [];
    if (end < 0 || length === undefined || Buffer.byteLength(this.#text) - end - 4 < Number(length)) return;
    const whole = this.#text;
    this.#text = '';
    this.#waiting?.resolve(whole);
    this.#waiting = undefined;
  }
}
