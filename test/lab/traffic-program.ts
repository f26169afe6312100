/**
 * What sandboxes say to each other in tests, as one small program run inside them:
 *
 *   listen-tcp PORT                    echoes every connection
 *   send-tcp ADDRESS PORT BYTES        sends, and expects all of it back
 *   listen-udp PORT                    echoes every datagram
 *   send-udp ADDRESS PORT BYTES [FROM] one datagram at a time until one is echoed, from a port of its own or that one
 *   listen-group GROUP PORT IFNAME     prints each datagram received (multicast or broadcast)
 *   send-group GROUP PORT IFNAME TEXT  sends until standard input closes
 *   steady ADDRESS PORT PERIOD-MS      one datagram a period; prints at the end how many were lost, and the time they stand for
 *   round-trips ADDRESS PORT FOR-MS    one datagram after the other; prints how long each took
 *
 * Every line on standard output is JSON; `{"ready":true}` comes first. It ends when standard input does.
 */
import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { connect, createServer, isIPv6 } from 'node:net';
import { networkInterfaces } from 'node:os';
import { setTimeout as wait } from 'node:timers/promises';

const any = '::';

function print(line: object): void {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

function fail(error: Error): void {
  print({ error: error.message });
  process.exitCode = 1;
}

function openUdp(family: 4 | 6): UdpSocket {
  const socket = createSocket({ type: family === 6 ? 'udp6' : 'udp4', reuseAddr: true });
  socket.on('error', fail);
  return socket;
}

function untilStdinEnds(end: () => void): void {
  process.stdin.on('end', end);
  process.stdin.resume();
}

function listenTcp(port: number): void {
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.pipe(socket);
  });
  server.listen(port, any, () => print({ ready: true }));
  untilStdinEnds(() => process.exit(0));
}

function sendTcp(address: string, port: number, sizeBytes: number): void {
  const socket = connect({ host: address, port });
  let receivedBytes = 0;
  const startedMs = performance.now();
  socket.setTimeout(3000, () => socket.destroy(new Error('silent for 3000 ms')));
  socket.on('error', fail);
  socket.on('connect', () => socket.write(Buffer.alloc(sizeBytes, 'x')));
  socket.on('data', (chunk) => {
    receivedBytes += chunk.length;
    if (receivedBytes < sizeBytes) return;
    print({ receivedBytes, from: socket.remoteAddress, tookMs: performance.now() - startedMs });
    socket.destroy();
  });
}

function listenUdp(port: number): void {
  const socket = openUdp(6);
  socket.on('message', (message, from) => socket.send(message, from.port, from.address, () => undefined));
  socket.bind(port, any, () => print({ ready: true }));
  untilStdinEnds(() => process.exit(0));
}

function sendUdp(address: string, port: number, sizeBytes: number, fromPort: number): void {
  const socket = openUdp(isIPv6(address) ? 6 : 4);
  const message = Buffer.alloc(sizeBytes, 'x');
  const send = (): void => socket.send(message, port, address, () => undefined);
  const again = setInterval(send, 100);
  const deadline = setTimeout(() => {
    fail(new Error('no answer for 3000 ms'));
    process.exit();
  }, 3000);
  socket.on('message', (answer, from) => {
    clearInterval(again);
    clearTimeout(deadline);
    socket.close();
    print({ receivedBytes: answer.length, from: from.address });
  });
  socket.bind(fromPort, send);
}

function listenGroup(group: string, port: number, ifname: string): void {
  const socket = openUdp(isIPv6(group) ? 6 : 4);
  socket.on('message', (message, from) => print({ text: message.toString('utf8'), from: from.address }));
  const listen = async (): Promise<void> => {
    if (isMulticast(group)) socket.addMembership(group, await multicastInterface(group, ifname));
    print({ ready: true });
  };
  socket.bind(port, isIPv6(group) ? any : '0.0.0.0', () => void listen());
  untilStdinEnds(() => process.exit(0));
}

function sendGroup(group: string, port: number, ifname: string, text: string): void {
  const socket = openUdp(isIPv6(group) ? 6 : 4);
  const begin = async (): Promise<void> => {
    if (isMulticast(group)) socket.setMulticastInterface(await multicastInterface(group, ifname));
    else if (!isIPv6(group)) socket.setBroadcast(true);
    const send = (): void => socket.send(text, port, group, (error) => (error === null ? undefined : fail(error)));
    send();
    setInterval(send, 50);
    print({ ready: true });
  };
  socket.bind(0, () => void begin());
  untilStdinEnds(() => process.exit());
}

function isMulticast(group: string): boolean {
  return isIPv6(group) ? /^ff/i.test(group) : /^2(2[4-9]|3[0-9])\./.test(group);
}

/**
 * libuv wants the interface as one of its addresses (IPv4) or as a zone (IPv6). It lists an interface once the kernel
 * has noted that it runs, which may be some time after its first packets.
 */
async function multicastInterface(group: string, ifname: string): Promise<string> {
  if (isIPv6(group)) return `::%${ifname}`;
  for (let left = 1000; left > 0; left -= 1) {
    const own = networkInterfaces()[ifname]?.find(({ family }) => family === 'IPv4');
    if (own !== undefined) return own.address;
    await wait(20);
  }
  throw new Error(`${ifname} has no IPv4 address`);
}

/** So long after the last answer those are waited for at the end that are still on their way. */
const lastAnswersMs = 1500;

function steady(address: string, port: number, periodMs: number): void {
  const socket = openUdp(isIPv6(address) ? 6 : 4);
  let sent = 0;
  let received = 0;
  let ending: NodeJS.Timeout | undefined;
  // Those that are late because a program did not have the processor are late, not lost.
  const end = (): void => {
    print({ sent, received, lostMs: (sent - received) * periodMs });
    process.exit();
  };
  socket.on('message', () => {
    if (received === 0) print({ ready: true });
    received += 1;
    ending?.refresh();
    if (ending !== undefined && received === sent) end();
  });
  const timer = setInterval(() => {
    sent += 1;
    socket.send(Buffer.from(String(sent)), port, address, () => undefined);
  }, periodMs);
  untilStdinEnds(() => {
    clearInterval(timer);
    ending = setTimeout(end, lastAnswersMs);
    if (received === sent) end();
  });
}

function roundTrips(address: string, port: number, forMs: number): void {
  const socket = openUdp(isIPv6(address) ? 6 : 4);
  const tookUs: number[] = [];
  const startedMs = performance.now();
  let sentMs = startedMs;
  const send = (): void => {
    sentMs = performance.now();
    socket.send('x', port, address);
  };
  const lost = setInterval(() => {
    if (performance.now() - sentMs > 200) send();
  }, 200);
  socket.on('message', () => {
    const nowMs = performance.now();
    tookUs.push((nowMs - sentMs) * 1000);
    if (nowMs - startedMs < forMs) return send();
    clearInterval(lost);
    socket.close();
    tookUs.sort((a, b) => a - b);
    const at = (part: number): number => tookUs[Math.floor(part * (tookUs.length - 1))] ?? NaN;
    print({ count: tookUs.length, p50Us: at(0.5), p99Us: at(0.99) });
  });
  send();
}

const [what, ...rest] = process.argv.slice(2);
const [first = '', second = '', third = '', fourth = ''] = rest;
switch (what) {
  case 'listen-tcp':
    listenTcp(Number(first));
    break;
  case 'send-tcp':
    sendTcp(first, Number(second), Number(third));
    break;
  case 'listen-udp':
    listenUdp(Number(first));
    break;
  case 'send-udp':
    sendUdp(first, Number(second), Number(third), Number(fourth));
    break;
  case 'listen-group':
    listenGroup(first, Number(second), third);
    break;
  case 'send-group':
    sendGroup(first, Number(second), third, fourth);
    break;
  case 'steady':
    steady(first, Number(second), Number(third));
    break;
  case 'round-trips':
    roundTrips(first, Number(second), Number(third));
    break;
  default:
    process.stderr.write(`unknown: ${what}\n`);
    process.exitCode = 2;
}
