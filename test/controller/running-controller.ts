import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import { controllerDefaults, type ControllerOptions } from '../../controller/options.js';
import { startController, type ControllerHandle } from '../../controller/main.js';
import type { HostRegistered } from '../../core/api/host.js';
import type { NetworkView } from '../../core/api/network.js';
import type { PublicationResult } from '../../core/api/publication.js';
import type { WatchLine } from '../../core/api/watch.js';
import { fromErrorBody, isErrorBody } from '../../core/errors.js';
import type { Block, Carrier, Endpoint } from '../../core/model.js';
import { HttpClient } from '../../lib/http/client.js';
import { newLogger } from '../../lib/log.js';
import { newEtcd, until, type RealEtcd } from '../store/real-etcd.js';

/** A controller on loopback over an etcd that lasts as long as the test. */
export interface RunningController {
  readonly handle: ControllerHandle;
  readonly url: string;
  readonly dataDir: string;
  readonly call: <T>(method: string, path: string, body?: unknown) => Promise<T>;
  readonly token: (role: 'admin' | 'host') => Promise<string>;
  readonly close: () => Promise<void>;
}

export async function newTestEtcd(t: Test): Promise<RealEtcd> {
  const etcd = await newEtcd();
  t.teardown(() => etcd.remove());
  return etcd;
}

export async function newController(
  t: Test,
  etcd: string,
  options: Partial<ControllerOptions> = {},
): Promise<RunningController> {
  const dataDir = options.dataDir ?? (await mkdtemp(join(tmpdir(), 'tsnet-controller-')));
  const handle = await startController(
    {
      ...controllerDefaults,
      listen: ['http://127.0.0.1:0'],
      etcd: etcd === '' ? [] : [etcd],
      dataDir,
      livenessMs: 4000,
      ...options,
    },
    newLogger('controller', process.env['TSNET_TEST_LOG'] === '1' ? 'debug' : 'silent'),
  );
  const url = handle.urls[0] ?? '';
  const client = new HttpClient({ base: url, unreachable: 'ERR_CONTROLLER_UNREACHABLE' });
  let isClosed = false;
  const close = async (): Promise<void> => {
    if (isClosed) return;
    isClosed = true;
    client.close();
    await handle.close();
  };
  t.teardown(async () => {
    await close();
    await rm(dataDir, { recursive: true, force: true });
  });
  if (options.etcd === undefined)
    await until(() => handle.context.mirror.isConnected, 30_000, 'the mirror is connected');
  return {
    handle,
    url,
    dataDir,
    call: (method, path, body) => client.call(method, path, { body }),
    token: async (role) => (await readFile(join(dataDir, `${role}.token`), 'utf8')).trim(),
    close,
  };
}

/** One call with whatever headers; the error body becomes the error. */
export async function callWith<T>(
  url: string,
  request: { readonly method?: string; readonly headers?: Record<string, string>; readonly body?: unknown },
): Promise<T> {
  const body = request.body === undefined ? {} : { body: JSON.stringify(request.body) };
  const headers = { ...(request.body === undefined ? {} : { 'content-type': 'application/json' }), ...request.headers };
  const response = await fetch(url, { method: request.method ?? 'GET', headers, ...body });
  const text = await response.text();
  const value: unknown = text === '' ? undefined : JSON.parse(text);
  if (!response.ok) throw isErrorBody(value) ? fromErrorBody(value) : new Error(`status ${response.status}: ${text}`);
  return value as T;
}

export const hostBody = (index: number, instance = `instance-${index}`) => ({
  vtep: `198.18.0.${index}`,
  underlayMtu: 1500,
  bootId: 'boot',
  instance,
  version: '0.1.0',
});

export function registerHost(controller: RunningController, index: number): Promise<HostRegistered> {
  return controller.call('PUT', `/v1/hosts/h${index}`, hostBody(index));
}

export function grant(
  controller: RunningController,
  host: string,
  network: NetworkView,
  address?: string,
): Promise<{ readonly block: Block }> {
  const subnet = network.subnets[0]?.subnet;
  return controller.call('POST', `/v1/hosts/${host}/blocks`, {
    network: network.id,
    subnet,
    ...(address === undefined ? {} : { address }),
  });
}

export function publish(controller: RunningController, host: string, body: object): Promise<PublicationResult> {
  return controller.call('POST', `/v1/hosts/${host}/publish`, body);
}

let counter = 0;

export function newEndpoint(
  network: string,
  host: string,
  fields: Partial<Endpoint> & { readonly addresses: readonly string[] },
): Endpoint {
  counter += 1;
  const id = counter.toString(16).padStart(16, '0');
  return {
    v: 1,
    generation: 1,
    id,
    network,
    host,
    mac: `02:00:00:00:${(counter >> 8).toString(16).padStart(2, '0')}:${(counter & 255).toString(16).padStart(2, '0')}`,
    ifname: 'eth0',
    name: `web-${counter}`,
    aliases: [],
    labels: {},
    state: 'attached',
    callerId: `caller-${counter}`,
    sandbox: 'pid:1',
    createdAt: '2026-01-01T00:00:00.000Z',
    ...fields,
  };
}

export function newCarrier(network: string, host: string, addresses: readonly string[]): Carrier {
  return { v: 1, generation: 1, network, host, vtep: '198.18.0.1', addresses, mac: '02:00:00:00:ff:01' };
}

/** A watch stream whose lines are collected. */
export interface TestStream {
  readonly lines: WatchLine[];
  readonly ended: Promise<unknown>;
  readonly hello: () => Extract<WatchLine, { type: 'hello' }>;
  /** Waits for a line. */
  readonly line: (what: string, condition: (line: WatchLine) => boolean, timeoutMs?: number) => Promise<WatchLine>;
  readonly close: () => void;
}

export async function openStream(
  t: Test,
  controller: RunningController,
  host: string,
  request: object,
): Promise<TestStream> {
  const client = new HttpClient({ base: controller.url, unreachable: 'ERR_CONTROLLER_UNREACHABLE' });
  const abort = new AbortController();
  const lines: WatchLine[] = [];
  const stream = await client.lines<WatchLine>('POST', `/v1/hosts/${host}/watch`, {
    body: request,
    idleMs: 20_000,
    signal: abort.signal,
  });
  const ended = (async (): Promise<unknown> => {
    try {
      for await (const line of stream) lines.push(line);
      return undefined;
    } catch (error) {
      return error;
    }
  })();
  const close = (): void => {
    abort.abort();
    client.close();
  };
  t.teardown(close);
  const line: TestStream['line'] = async (what, condition, timeoutMs = 30_000) => {
    await until(() => lines.some(condition), timeoutMs, what);
    const found = lines.find(condition);
    if (found === undefined) throw new Error(what);
    return found;
  };
  await until(() => lines.length > 0, 30_000, 'hello');
  return {
    lines,
    ended,
    hello: () => {
      const [first] = lines;
      if (first?.type !== 'hello') throw new Error('the first line is no hello');
      return first;
    },
    line,
    close,
  };
}
