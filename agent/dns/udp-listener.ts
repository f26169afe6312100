import { formatAddr } from '../../core/addr.js';
import type { UdpBatch } from '../../native/api.js';
import type { Listener, ListenOptions } from './listener.js';
import type { Asker } from './responder.js';

// As in native/api.ts.
const batchSize = 32;
const datagramBytes = 4096;
const sourceBytes = 28;
const inet6 = 10;

const receiveBufferBytes = 1024 * 1024;
const mostAskers = 10_000;

/** One for all sockets: each is done with a batch before the next begins. */
const queries = Buffer.alloc(batchSize * datagramBytes);
const sources = Buffer.alloc(batchSize * sourceBytes);
const answers = Buffer.alloc(batchSize * datagramBytes);
const queryLengths = new Uint32Array(batchSize);
const answerLengths = new Uint32Array(batchSize);
const batch: UdpBatch = { queries, sources, answers, queryLengths, answerLengths };

/** Opens a UDP place, or goes on with an open one. Errors: NativeError (EADDRINUSE where the port is taken). */
export async function listenUdp(options: ListenOptions): Promise<Listener> {
  const { native, address, port, netns, responder, scopeOf, onError, inherited } = options;
  const open = { type: 'udp', address, port, receiveBufferBytes, ...(netns === undefined ? {} : { netns }) } as const;
  const fd = inherited ?? (await native.inetOpen(open));
  const askers = new Map<number | string, Asker>();
  const askerAt = (at: number): Asker => {
    const isSix = ((sources[at] ?? 0) | (sources[at + 1] ?? 0)) === inet6;
    const key = isSix ? sources.toString('latin1', at + 8, at + 24) : sources.readUInt32BE(at + 4);
    const known = askers.get(key);
    if (known !== undefined) return known;
    if (askers.size >= mostAskers) askers.clear();
    const value = BigInt(`0x${sources.toString('hex', at + (isSix ? 8 : 4), at + (isSix ? 24 : 8))}`);
    const from = formatAddr({ family: isSix ? 6 : 4, value });
    const asker: Asker = { address: from, scope: () => scopeOf(from), transport: 'udp' };
    askers.set(key, asker);
    return asker;
  };
  const onBatch = (count: number): void => {
    for (let index = 0; index < count; index += 1) {
      const length = queryLengths[index] ?? 0;
      const from = index * sourceBytes;
      const at = index * datagramBytes;
      const answer = responder.respond(queries.subarray(at, at + length), askerAt(from));
      if (answer === null) continue;
      if (Buffer.isBuffer(answer)) {
        answer.copy(answers, at);
        answerLengths[index] = answer.length;
        continue;
      }
      const source = Uint8Array.prototype.slice.call(sources, from, from + sourceBytes);
      void answer.then((whole) => server.send(source, whole));
    }
  };
  const server = native.udpServe({ fd, batch, onBatch, onError });
  return {
    fd,
    port: server.port,
    pause: () => server.pause(),
    close: () => server.close(),
  };
}
