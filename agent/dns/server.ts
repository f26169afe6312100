import { statSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { TsnetError } from '../../core/errors.js';
import { version } from '../../core/version.js';
import type { Logger } from '../../lib/log.js';
import { socketPath } from '../../lib/socket-path.js';
import { openAddon } from '../addon.js';
import { dnsDefaults } from '../options.js';
import { explain } from './explain.js';
import { sayReady, startSuccessor, takeInherited } from './handover.js';
import { Forwarder } from './forwarder.js';
import { Places } from './places.js';
import { goFirst } from './precedence.js';
import { newLineReader, type ToAgent, type ToServer } from './protocol.js';
import { Responder } from './responder.js';
import { DnsTables } from './tables.js';
import { HostResolver } from './upstreams.js';

export interface DnsServerOptions {
  /** Holds dns.sock. */
  readonly runDir: string;
  readonly resolvConf: string;
}

export interface DnsServerIo {
  readonly signal: AbortSignal;
  readonly log: Logger;
}

/** How often it is looked whether the socket's file is still there. */
const lookMs = 2000;
const noAgentMs = 10_000;
/** Until questions that were forwarded are answered: the sockets are read by the successor. */
const lingerMs = 5000;

/** Where agent and name server meet. Errors: ERR_LISTEN for a path that is too long. */
export function dnsSocketPath(runDir: string): string {
  return socketPath(join(runDir, 'dns.sock'), 'ERR_LISTEN');
}

/**
 * Runs the name server of this host, a process of its own: it answers from what the agent last said, while the agent
 * works, restarts or is away. Ends with the signal, when the agent says so, or once nobody can reach its socket any more.
 * Errors: ERR_LISTEN.
 */
export async function runDnsServer(options: DnsServerOptions, io: DnsServerIo): Promise<void> {
  const { log } = io;
  const path = dnsSocketPath(options.runDir);
  const inherited = takeInherited();
  if (await isAnswered(path)) {
    log.info({ socket: path }, 'another name server is there');
    return;
  }
  goFirst(log);
  const native = openAddon();
  const hostResolver = new HostResolver(options.resolvConf);
  const tables = new DnsTables(dnsDefaults.domain);
  const forwarder: Forwarder = new Forwarder({ isOurs: (address) => places.isOurs(address) });
  const responder: Responder = new Responder({
    tables,
    forwarder,
    hostServers: () => (tables.upstreams.length > 0 ? tables.upstreams : hostResolver.get().nameservers),
  });
  const agents = new Set<Socket>();
  const tell = (message: ToAgent): void => {
    for (const agent of agents) agent.write(`${JSON.stringify(message)}\n`);
  };
  let hasTold = false;
  const tellPlaces = (): void => {
    // Those that are just being opened again are not to look closed to the agent, which leads packets there.
    if (!hasTold && places.isOpening) return;
    hasTold = true;
    tell({ say: 'places', places: places.places, failed: places.failed });
  };
  const places: Places = new Places({
    native,
    tables,
    responder,
    log,
    inherited: inherited ?? new Map(),
    onChange: tellPlaces,
    onSockets: tell,
  });
  let stop = (): void => undefined;
  const stopped = new Promise<void>((resolve) => (stop = resolve));

  const hear = (message: ToServer, from: Socket): void => {
    switch (message.do) {
      case 'ask': {
        const answer = explain(tables, message.question);
        from.write(`${JSON.stringify({ say: 'answer', id: message.question.id, answer } satisfies ToAgent)}\n`);
        return;
      }
      case 'replace':
        void replace(message.program);
        return;
      case 'stop':
        stop();
        return;
      case 'begin':
        isInSet = true;
        tables.apply(message);
        return;
      case 'end':
        isInSet = false;
        tables.apply(message);
        places.update();
        places.closeInherited();
        if (inherited !== null) sayReady();
        tellPlaces();
        places.tellSockets();
        return;
      default:
        if (tables.apply(message) && !isInSet) updateSoon();
    }
  };
  let isReplacing = false;
  /** The path is free for the successor, and ours again where it does not get ready. */
  const replace = async (program: readonly string[]): Promise<void> => {
    if (isReplacing) return;
    isReplacing = true;
    server.close();
    if (await startSuccessor(program, places.sockets())) {
      log.info('another name server goes on with the sockets');
      places.pause();
      setTimeout(stop, lingerMs);
      return;
    }
    log.error('another name server did not get ready: going on');
    server = listen();
    await bindPrivately(server, path).catch(() => stop());
    ino = inodeOf(path);
    isReplacing = false;
  };
  let isInSet = false;
  let isDue = false;
  const updateSoon = (): void => {
    if (isDue) return;
    isDue = true;
    setImmediate(() => {
      isDue = false;
      places.update();
    });
  };
  const listen = (): Server =>
    createServer((agent) => {
      // A newer one takes over; the old one is the same agent's, or one that is ending.
      for (const before of agents) before.destroy();
      agents.add(agent);
      isInSet = false;
      hasTold = false;
      agent.setEncoding('utf8');
      const read = newLineReader<ToServer>((message) => hear(message, agent));
      agent.on('data', (part: string) => {
        try {
          read(part);
        } catch (error) {
          log.error({ error: String(error) }, 'the agent said what cannot be understood');
          agent.destroy();
        }
      });
      agent.on('error', () => undefined);
      agent.on('close', () => agents.delete(agent));
      agent.write(`${JSON.stringify({ say: 'hello', version, pid: process.pid } satisfies ToAgent)}\n`);
    });
  let server = listen();
  await bindPrivately(server, path);
  log.info({ socket: path }, 'name server is ready');
  let ino = inodeOf(path);
  const startedMs = performance.now();
  const watch = setInterval(() => {
    const isOrphan = agents.size === 0 && inodeOf(path) !== ino;
    const isForgotten = agents.size === 0 && !tables.hasAll && performance.now() - startedMs > noAgentMs;
    if (!isReplacing && (isOrphan || isForgotten)) stop();
  }, lookMs);
  io.signal.addEventListener('abort', () => stop(), { once: true });
  if (io.signal.aborted) stop();
  await stopped;
  clearInterval(watch);
  places.close();
  for (const agent of agents) agent.destroy();
  await new Promise((resolve) => server.close(resolve));
  log.info({ ...responder.counters }, 'name server has stopped');
}

async function bindPrivately(server: Server, path: string): Promise<void> {
  await rm(path, { force: true });
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) =>
      reject(new TsnetError('ERR_LISTEN', `cannot listen on ${path}: ${error.message}`, { cause: error })),
    );
    const before = process.umask(0o177);
    server.listen({ path }, resolve);
    process.umask(before);
  });
}

function inodeOf(path: string): number {
  try {
    return statSync(path).ino;
  } catch {
    return -1;
  }
}

function isAnswered(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ path });
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}
