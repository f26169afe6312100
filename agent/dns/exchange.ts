import { createSocket } from 'node:dgram';
import { connect } from 'node:net';
import { headerBytes, largestMessageBytes } from '../../lib/dns/constants.js';

/** One question to one upstream. A socket for each, so that each has a port that nobody can guess. */

const dnsPort = 53;
const sameFamily = (address: string): 'udp4' | 'udp6' => (address.includes(':') ? 'udp6' : 'udp4');

export interface ExchangeOptions {
  /** Address, with a zone id where it is link-local; a port may follow as `#PORT`. */
  readonly server: string;
  readonly timeoutMs: number;
  /** Reports whether an answer belongs to the question; others are passed over. */
  readonly accepts: (answer: Buffer) => boolean;
}

function placeOf(server: string): { address: string; port: number } {
  const [address = '', port] = server.split('#');
  return { address, port: port === undefined ? dnsPort : Number(port) };
}

/** Asks by UDP. Errors: Error where nothing acceptable came in time. */
export function askUdp(query: Buffer, { server, timeoutMs, accepts }: ExchangeOptions): Promise<Buffer> {
  const { address, port } = placeOf(server);
  return new Promise((resolve, reject) => {
    const socket = createSocket(sameFamily(address));
    const end = (settle: () => void): void => {
      clearTimeout(timer);
      socket.removeAllListeners();
      socket.on('error', () => undefined);
      socket.close();
      settle();
    };
    const fail = (reason: string): void => end(() => reject(new Error(`${server}: ${reason}`)));
    const timer = setTimeout(() => fail('no answer'), timeoutMs);
    socket.once('error', (error) => fail(error.message));
    socket.on('message', (answer) => {
      if (accepts(answer)) end(() => resolve(answer));
    });
    // Connected: the kernel passes on what comes from there only, and says when nobody listens.
    socket.once('connect', () => socket.send(query));
    socket.connect(port, address);
  });
}

/** Asks by TCP. Errors: Error. */
export function askTcp(query: Buffer, { server, timeoutMs, accepts }: ExchangeOptions): Promise<Buffer> {
  const { address, port } = placeOf(server);
  return new Promise((resolve, reject) => {
    const socket = connect({ host: address, port });
    let received: Buffer = Buffer.alloc(0);
    const end = (settle: () => void): void => {
      clearTimeout(timer);
      socket.destroy();
      settle();
    };
    const fail = (reason: string): void => end(() => reject(new Error(`${server}: ${reason}`)));
    const timer = setTimeout(() => fail('no answer by TCP'), timeoutMs);
    socket.on('error', (error) => fail(error.message));
    socket.on('close', () => fail('closed without an answer'));
    socket.once('connect', () => {
      const length = Buffer.alloc(2);
      length.writeUInt16BE(query.length, 0);
      socket.write(Buffer.concat([length, query]));
    });
    socket.on('data', (part) => {
      received = Buffer.concat([received, part]);
      const length = received.length < 2 ? largestMessageBytes : received.readUInt16BE(0);
      if (received.length < 2 + length) return;
      const answer = received.subarray(2, 2 + length);
      if (length >= headerBytes && accepts(answer)) end(() => resolve(answer));
      else fail('an answer to another question');
    });
  });
}
