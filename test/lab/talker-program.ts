/**
 * One end of many connections, run inside a sandbox: `talker-program.js PORT…`. It echoes TCP and UDP on each of the
 * ports, but on those from 9000 up, where the client echoes and the server speaks first. A datagram that asks who sent it
 * is answered by the address that it came from. What it is to do comes as lines of JSON on standard input; each is
 * answered by a line with its `id`. It ends when standard input does.
 */
import { spawn } from 'node:child_process';
import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { connect, createServer, isIPv6, type Socket } from 'node:net';
import { createInterface } from 'node:readline';

export interface Probe {
  readonly protocol: 'tcp' | 'udp' | 'icmp';
  readonly address: string;
  readonly port: number;
  /** UDP: the port that it comes from; one of its own otherwise. */
  readonly fromPort?: number;
}

export type Command =
  | { readonly what: 'probe'; readonly probes: readonly Probe[] }
  | { readonly what: 'seen'; readonly address: string; readonly port: number }
  | { readonly what: 'open'; readonly probe: Probe }
  | { readonly what: 'say'; readonly connection: number }
  | { readonly what: 'push'; readonly port: number };

/** So long an answer is waited for: what is permitted takes a millisecond. */
const patienceMs = 1000;
const firstPushPort = 9000;
const any = '::';
const whoAmI = 'who am I';
const whoAmIAgainMs = 100;

const accepted = new Map<number, Set<Socket>>();
const opened: (() => Promise<boolean>)[] = [];

function within(begin: (answered: (value: boolean) => void) => () => void): Promise<boolean> {
  return new Promise((resolve) => {
    const answered = (value: boolean): void => {
      clearTimeout(timer);
      end();
      resolve(value);
    };
    const timer = setTimeout(() => answered(false), patienceMs);
    const end = begin((value) => setImmediate(answered, value));
  });
}

async function listen(port: number): Promise<void> {
  const sockets = new Set<Socket>();
  accepted.set(port, sockets);
  const server = createServer((socket) => {
    socket.on('error', () => socket.destroy());
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    if (port < firstPushPort) socket.pipe(socket);
  });
  const udp = createSocket('udp6');
  udp.on('message', (message, from) => {
    const answer = message.equals(Buffer.from(whoAmI)) ? from.address.replace(/^::ffff:/, '') : message;
    udp.send(answer, from.port, from.address, () => undefined);
  });
  await new Promise<void>((resolve) => server.listen(port, any, resolve));
  await new Promise<void>((resolve) => udp.bind(port, any, resolve));
}

function udpTo({ address, port, fromPort = 0 }: Probe): { socket: UdpSocket; send: () => void } {
  const socket = createSocket(isIPv6(address) ? 'udp6' : 'udp4');
  socket.on('error', () => undefined);
  socket.bind(fromPort);
  return { socket, send: () => socket.send('x', port, address, () => undefined) };
}

function sayTcp(socket: Socket): Promise<boolean> {
  return within((answered) => {
    const hear = (): void => answered(true);
    const lose = (): void => answered(false);
    socket.once('data', hear).once('close', lose);
    if (socket.destroyed) lose();
    else socket.write('x');
    return () => socket.off('data', hear).off('close', lose);
  });
}

function sayUdp({ socket, send }: ReturnType<typeof udpTo>): Promise<boolean> {
  return within((answered) => {
    const hear = (): void => answered(true);
    socket.once('message', hear);
    send();
    return () => socket.off('message', hear);
  });
}

/** The address that a server sees datagrams to it come from; null where it does not answer. */
function seenAs(address: string, port: number): Promise<string | null> {
  return new Promise((resolve) => {
    const socket = createSocket(isIPv6(address) ? 'udp6' : 'udp4');
    const send = (): void => socket.send(whoAmI, port, address, () => undefined);
    const again = setInterval(send, whoAmIAgainMs);
    const answered = (answer: string | null): void => {
      clearInterval(again);
      clearTimeout(timer);
      socket.close();
      resolve(answer);
    };
    const timer = setTimeout(() => answered(null), patienceMs);
    socket.on('error', () => undefined);
    socket.on('message', (message) => answered(message.toString('latin1')));
    send();
  });
}

function ping(address: string): Promise<boolean> {
  return new Promise((resolve) => {
    const seconds = String(patienceMs / 1000);
    const child = spawn('ping', ['-n', '-q', '-c', '1', '-W', seconds, address], { stdio: 'ignore' });
    child.on('close', (status) => resolve(status === 0));
  });
}

async function probe(asked: Probe): Promise<boolean> {
  if (asked.protocol === 'icmp') return ping(asked.address);
  if (asked.protocol === 'udp') {
    const udp = udpTo(asked);
    const heard = await sayUdp(udp);
    udp.socket.close();
    return heard;
  }
  return within((answered) => {
    const socket = connect({ host: asked.address, port: asked.port });
    socket.on('error', () => answered(false)).on('connect', () => answered(true));
    return () => socket.resetAndDestroy();
  });
}

async function open(asked: Probe): Promise<number> {
  if (asked.protocol === 'udp') {
    const udp = udpTo(asked);
    return opened.push(() => sayUdp(udp)) - 1;
  }
  const socket = connect({ host: asked.address, port: asked.port });
  socket.on('error', () => socket.destroy());
  await new Promise<void>((resolve) => socket.once('connect', resolve).once('close', () => resolve()));
  if (asked.port >= firstPushPort) socket.pipe(socket);
  return opened.push(() => sayTcp(socket)) - 1;
}

async function act(command: Command): Promise<unknown> {
  switch (command.what) {
    case 'probe':
      return Promise.all(command.probes.map(probe));
    case 'seen':
      return seenAs(command.address, command.port);
    case 'open':
      return open(command.probe);
    case 'say':
      return opened[command.connection]?.() ?? false;
    case 'push': {
      const heard = await Promise.all([...(accepted.get(command.port) ?? [])].map(sayTcp));
      return heard.length > 0 && heard.every(Boolean);
    }
  }
}

await Promise.all(process.argv.slice(2).map((port) => listen(Number(port))));
createInterface(process.stdin)
  .on('line', (line) => {
    const { id, ...command } = JSON.parse(line) as Command & { readonly id: number };
    void act(command as Command).then((answer) => process.stdout.write(`${JSON.stringify({ id, answer })}\n`));
  })
  .on('close', () => process.exit());
process.stdout.write(`${JSON.stringify({ id: 0, answer: 'ready' })}\n`);
