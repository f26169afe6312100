import { get } from 'node:http';
import { connect } from 'node:net';
import type { ServiceHealth } from '../../core/model.js';

export interface ProbeTarget {
  readonly address: string;
  readonly port: number;
}

/** Reports whether a backend answers: accepts a connection, or a request with a status below 400. */
export function probe(health: ServiceHealth, target: ProbeTarget, timeoutMs: number): Promise<boolean> {
  return health.type === 'tcp' ? probeTcp(target, timeoutMs) : probeHttp(health.path ?? '/', target, timeoutMs);
}

function probeTcp({ address, port }: ProbeTarget, timeoutMs: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: address, port });
    const end = (isGood: boolean): void => {
      socket.destroy();
      resolve(isGood);
    };
    socket.setTimeout(timeoutMs, () => end(false));
    socket.on('error', () => end(false));
    socket.on('connect', () => end(true));
  });
}

function probeHttp(path: string, { address, port }: ProbeTarget, timeoutMs: number): Promise<boolean> {
  return new Promise((resolve) => {
    const headers = { 'user-agent': 'tsnet-health', connection: 'close' };
    const request = get({ host: address, port, path, headers, agent: false }, (response) => {
      // What it says is not read: a body may be endless.
      response.destroy();
      end((response.statusCode ?? 500) < 400);
    });
    // The socket's own time-out begins anew with each byte.
    const timer = setTimeout(() => end(false), timeoutMs);
    const end = (isGood: boolean): void => {
      clearTimeout(timer);
      request.destroy();
      resolve(isGood);
    };
    request.on('error', () => end(false));
  });
}
