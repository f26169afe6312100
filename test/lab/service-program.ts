/**
 * Backends and clients of services in tests, run inside sandboxes:
 *
 *   serve NAME PORT               HTTP and UDP echo: says NAME and who asks; /healthz fails after `fail` on standard input
 *   ask                           for each question on standard input so many requests, each on a connection of its own, or
 *                                 datagrams, each from a port of its own; prints who answered and whom they saw
 *   load ADDRESS PORT PERIOD-MS   a request each period until standard input closes; prints how many failed
 *   hold ADDRESS PORT             one connection, with a request for each line of standard input; prints each answer
 *
 * Every line on standard output is JSON. It ends when standard input does.
 */
import { createSocket } from 'node:dgram';
import { Agent, createServer, get } from 'node:http';
import { createInterface } from 'node:readline';

interface Answer {
  readonly name: string;
  readonly client: string;
}

function print(line: object): void {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

const plain = (address: string | undefined): string => (address ?? '').replace(/^::ffff:/, '');

function serve(name: string, port: number): void {
  let isFailing = false;
  const server = createServer((request, response) => {
    response.statusCode = request.url === '/healthz' && isFailing ? 503 : 200;
    response.end(JSON.stringify({ name, client: plain(request.socket.remoteAddress) }));
  });
  // What is held is ended by the service, not by the server.
  server.keepAliveTimeout = 120_000;
  const udp = createSocket('udp6');
  udp.on('message', (_text, from) => {
    udp.send(JSON.stringify({ name, client: plain(from.address) }), from.port, from.address);
  });
  udp.bind(port, '::', () => server.listen(port, '::', () => print({ ready: true })));
  const lines = createInterface(process.stdin);
  lines.on('line', (line) => {
    isFailing = line === 'fail';
    print({ failing: isFailing });
  });
  lines.on('close', () => process.exit(0));
}

interface Place {
  readonly host: string;
  readonly port: number;
  readonly agent: Agent | false;
}

/** What is not to be answered is given up soon; what is to be may take its time on a busy machine. */
const [patienceMs, longPatienceMs] = [3000, 10_000];

function request(place: Place, timeoutMs = patienceMs): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const sent = get({ ...place, path: '/', timeout: timeoutMs }, (response) => {
      let body = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => (body += chunk));
      response.on('end', () => resolve(JSON.parse(body) as Answer));
      response.on('error', reject);
    });
    sent.on('timeout', () => sent.destroy(new Error(`no answer within ${timeoutMs} ms`)));
    sent.on('error', reject);
  });
}

function requestUdp(address: string, port: number): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4');
    const timer = setTimeout(() => {
      socket.close();
      reject(new Error(`no answer within ${patienceMs} ms`));
    }, patienceMs);
    socket.on('error', reject);
    socket.on('message', (text) => {
      clearTimeout(timer);
      socket.close();
      resolve(JSON.parse(text.toString('utf8')) as Answer);
    });
    socket.send('hello', port, address);
  });
}

export interface Question {
  readonly id: number;
  readonly protocol: 'tcp' | 'udp';
  readonly address: string;
  readonly port: number;
  readonly count: number;
}

function ask(): void {
  const lines = createInterface(process.stdin);
  lines.on('line', (line) => void answer(JSON.parse(line) as Question));
  lines.on('close', () => process.exit(0));
  print({ ready: true });
}

async function answer({ id, protocol, address, port, count }: Question): Promise<void> {
  const one = (): Promise<Answer> =>
    protocol === 'udp' ? requestUdp(address, port) : request({ host: address, port, agent: false });
  const answers: Record<string, number> = {};
  const clients = new Set<string>();
  const errors: string[] = [];
  for (let at = 0; at < count; at++) {
    try {
      const { name, client } = await one();
      answers[name] = (answers[name] ?? 0) + 1;
      clients.add(client);
    } catch (error) {
      errors.push((error as Error).message);
    }
  }
  print({ id, heard: { answers, clients: [...clients], failed: errors.length, errors: [...new Set(errors)] } });
}

async function load(place: Place, periodMs: number): Promise<void> {
  const answers: Record<string, number> = {};
  const errors: string[] = [];
  const open = new Set<Promise<void>>();
  let isOver = false;
  process.stdin.on('end', () => (isOver = true));
  process.stdin.resume();
  print({ ready: true });
  while (!isOver) {
    const sent: Promise<void> = request(place, longPatienceMs)
      .then(({ name }) => {
        answers[name] = (answers[name] ?? 0) + 1;
      })
      .catch((error: unknown) => void errors.push((error as Error).message))
      .finally(() => open.delete(sent));
    open.add(sent);
    await new Promise((next) => setTimeout(next, periodMs));
  }
  await Promise.all(open);
  print({ answers, failed: errors.length, errors: [...new Set(errors)] });
}

function hold(place: Omit<Place, 'agent'>): void {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const lines = createInterface(process.stdin);
  lines.on('line', () => {
    request({ ...place, agent }).then(print, (error: unknown) => print({ error: (error as Error).message }));
  });
  lines.on('close', () => process.exit(0));
  print({ ready: true });
}

const [, , verb = '', first = '', second = '', third = ''] = process.argv;
const place = { host: first, port: Number(second) };
switch (verb) {
  case 'serve':
    serve(first, Number(second));
    break;
  case 'ask':
    ask();
    break;
  case 'load':
    await load({ ...place, agent: false }, Number(third));
    break;
  case 'hold':
    hold(place);
    break;
  default:
    throw new Error(`unknown: ${verb}`);
}
