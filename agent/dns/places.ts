import { closeSync } from 'node:fs';
import { insideAddress } from '../../core/dns/resolver.js';
import type { Logger } from '../../lib/log.js';
import type { NativeApi, NetnsHandle, NetnsRef } from '../../native/api.js';
import { parseTarget } from '../attach/target.js';
import { ConnectionShare } from './connection-share.js';
import { listenTcp, type Listener, type ListenOptions } from './listener.js';
import type { DnsPlace } from './protocol.js';
import type { Responder } from './responder.js';
import type { DnsTables } from './tables.js';
import { listenUdp } from './udp-listener.js';

export interface PlacesOptions {
  readonly native: NativeApi;
  readonly tables: DnsTables;
  readonly responder: Responder;
  readonly log: Logger;
  /** Open sockets that are taken over, by place. */
  readonly inherited: Map<string, PlaceSockets>;
  /** Where is listened has changed. */
  readonly onChange: () => void;
}

/** Descriptors of one place. */
export interface PlaceSockets {
  readonly udp: number;
  readonly tcp: number;
}

interface Open {
  readonly udp: Listener;
  readonly tcp: Listener;
  close(): void;
}

const dnsPort = 53;
const sweepMs = 1000;
const retryMs = 2000;

/**
 * The open sockets: on this host's addresses in its networks, and inside the sandboxes that cannot reach those. What
 * stays wanted stays open, whatever else changes. A socket keeps its namespace alive, so those inside are closed as soon
 * as the sandbox's anchor (process or path) leads elsewhere; that is looked at here, for the agent may be away.
 */
export class Places {
  readonly #options: PlacesOptions;
  readonly #onHost = new Map<string, Open | 'opening'>();
  readonly #inside = new Map<string, Open | 'opening' | 'gone'>();
  /** By address, whose it is. */
  #networks: ReadonlyMap<string, string> = new Map();
  readonly #ports = new Map<string, readonly DnsPlace[]>();
  readonly #failed = new Map<string, string>();
  readonly #connections = new ConnectionShare();
  readonly #sweepTimer: NodeJS.Timeout;
  #retryTimer: NodeJS.Timeout | undefined;

  constructor(options: PlacesOptions) {
    this.#options = options;
    this.#sweepTimer = setInterval(() => void this.#sweep(), sweepMs);
  }

  get places(): readonly DnsPlace[] {
    return [...this.#ports.values()].flat();
  }

  get failed(): readonly string[] {
    return [...this.#failed.values()];
  }

  isOurs(address: string): boolean {
    return this.#onHost.has(address);
  }

  /** Opens and closes what the tables say. */
  update(): void {
    const { tables } = this.#options;
    const wanted = new Map<string, string>();
    for (const { id, listen } of tables.networks()) for (const address of listen) wanted.set(address, id);
    this.#networks = wanted;
    for (const [address, open] of this.#onHost) {
      if (wanted.has(address) || open === 'opening') continue;
      open.close();
      this.#onHost.delete(address);
      this.#ports.delete(address);
      this.#failed.delete(address);
      this.#options.onChange();
    }
    for (const address of wanted.keys()) if (!this.#onHost.has(address)) void this.#openOnHost(address);
    this.#updateInside();
  }

  /** The open sockets by place: an address, or the sandbox that they are inside of. */
  sockets(): Map<string, PlaceSockets> {
    const open = [...this.#onHost, ...this.#inside];
    return new Map(
      open.flatMap(([place, state]) =>
        typeof state === 'object' ? [[place, { udp: state.udp.fd, tcp: state.tcp.fd }] as const] : [],
      ),
    );
  }

  /** Takes nothing more: another process goes on with the sockets. What is under way is finished. */
  pause(): void {
    clearInterval(this.#sweepTimer);
    clearTimeout(this.#retryTimer);
    for (const open of [...this.#onHost.values(), ...this.#inside.values()]) {
      if (typeof open !== 'object') continue;
      open.udp.pause();
      open.tcp.pause();
    }
  }

  /** Of what was taken over nothing is left that nobody wants. */
  closeInherited(): void {
    for (const sockets of this.#options.inherited.values()) closeSockets(sockets);
    this.#options.inherited.clear();
  }

  #inherit(place: string): PlaceSockets | undefined {
    const sockets = this.#options.inherited.get(place);
    this.#options.inherited.delete(place);
    return sockets;
  }

  close(): void {
    clearInterval(this.#sweepTimer);
    clearTimeout(this.#retryTimer);
    for (const open of [...this.#onHost.values(), ...this.#inside.values()]) if (typeof open === 'object') open.close();
  }

  /** The network whose address this is, at the time of asking: a subnet may have changed hands. */
  #networkAt(address: string): string {
    return this.#networks.get(address) ?? '';
  }

  async #openOnHost(address: string): Promise<void> {
    this.#onHost.set(address, 'opening');
    const { tables } = this.#options;
    const scopeOf = (from: string) => tables.scopeAt(this.#networkAt(address), from);
    const base = { ...this.#base(), address, scopeOf };
    const inherited = this.#inherit(address);
    try {
      const udp = await openAnyPort(listenUdp, withSocket(base, inherited?.udp));
      const tcp = await openAnyPort(listenTcp, withSocket(base, inherited?.tcp)).catch((error: unknown) => {
        udp.close();
        throw error;
      });
      this.#onHost.set(address, newOpen(udp, tcp));
      this.#failed.delete(address);
      this.#ports.set(address, [
        { address, protocol: 'udp', port: udp.port },
        { address, protocol: 'tcp', port: tcp.port },
      ]);
    } catch (error) {
      this.#onHost.delete(address);
      this.#fail(address, error);
    }
    this.#options.onChange();
    this.update();
  }

  #updateInside(): void {
    const wanted = new Map<string, string>();
    for (const { sandbox, inside } of this.#options.tables.own())
      if (sandbox !== null && inside !== null) wanted.set(sandbox, inside);
    for (const [sandbox, open] of this.#inside) {
      if (wanted.has(sandbox) || open === 'opening') continue;
      if (open !== 'gone') open.close();
      this.#inside.delete(sandbox);
      this.#failed.delete(sandbox);
    }
    for (const [sandbox, target] of wanted) if (!this.#inside.has(sandbox)) void this.#openInside(sandbox, target);
  }

  async #openInside(sandbox: string, target: string): Promise<void> {
    this.#inside.set(sandbox, 'opening');
    const { native, tables } = this.#options;
    const scopeOf = () => tables.scopeOfSandbox(sandbox);
    let handle: NetnsHandle | undefined;
    let inherited = this.#inherit(sandbox);
    try {
      handle = await native.netnsOpen(parseTarget(target).ref);
      if (String(handle.cookie) !== sandbox) {
        this.#inside.set(sandbox, 'gone');
        return;
      }
      const netns: NetnsRef = { fd: handle.fd };
      const base = { ...this.#base(), address: insideAddress, port: dnsPort, netns, scopeOf };
      const taken = inherited;
      inherited = undefined;
      const udp = await listenUdp(withSocket(base, taken?.udp));
      const tcp = await listenTcp(withSocket(base, taken?.tcp)).catch((error: unknown) => {
        udp.close();
        throw error;
      });
      this.#inside.set(sandbox, newOpen(udp, tcp));
      this.#failed.delete(sandbox);
    } catch (error) {
      const { code } = error as { readonly code?: unknown };
      this.#inside.set(sandbox, 'gone');
      if (code !== 'ENOENT' && code !== 'ESRCH') this.#fail(sandbox, error);
    } finally {
      if (inherited !== undefined) closeSockets(inherited);
      handle?.close();
    }
    this.#updateInside();
  }

  /** Closes what is inside sandboxes whose anchor is gone. */
  async #sweep(): Promise<void> {
    const open = [...this.#inside].filter(([, state]) => typeof state === 'object');
    if (open.length === 0) return;
    const targets = new Map<string, string>();
    for (const { sandbox, inside } of this.#options.tables.own())
      if (sandbox !== null && inside !== null) targets.set(sandbox, inside);
    const known = open.flatMap(([sandbox]) => {
      const target = targets.get(sandbox);
      return target === undefined ? [] : [{ sandbox, ref: parseTarget(target).ref }];
    });
    const cookies = await this.#options.native.netnsCookies(known.map(({ ref }) => ref));
    for (const [index, { sandbox }] of known.entries()) {
      const cookie = cookies[index];
      const isGone =
        typeof cookie === 'bigint'
          ? String(cookie) !== sandbox
          : cookie === 'ENOENT' || cookie === 'ESRCH' || cookie === 'EINVAL';
      const state = this.#inside.get(sandbox);
      if (!isGone || typeof state !== 'object') continue;
      state.close();
      this.#inside.set(sandbox, 'gone');
    }
  }

  #base(): Pick<ListenOptions, 'native' | 'responder' | 'connections' | 'onError'> {
    const { native, responder, log } = this.#options;
    return {
      native,
      responder,
      connections: this.#connections,
      onError: (error) => log.warn({ error: error.message }, 'on a socket of the name server'),
    };
  }

  #fail(place: string, error: unknown): void {
    const reason = error instanceof Error ? error.message : String(error);
    if (!this.#failed.has(place)) this.#options.log.error({ place, error: reason }, 'cannot listen for names there');
    this.#failed.set(place, reason);
    if (this.#retryTimer !== undefined) return;
    this.#retryTimer = setTimeout(() => {
      this.#retryTimer = undefined;
      for (const [sandbox, state] of this.#inside)
        if (state === 'gone' && this.#failed.has(sandbox)) this.#inside.delete(sandbox);
      this.update();
    }, retryMs);
  }
}

function newOpen(udp: Listener, tcp: Listener): Open {
  return {
    udp,
    tcp,
    close: () => {
      udp.close();
      tcp.close();
    },
  };
}

function closeSockets({ udp, tcp }: PlaceSockets): void {
  closeSync(udp);
  closeSync(tcp);
}

function withSocket<Base extends object>(base: Base, inherited: number | undefined): Base & { inherited?: number } {
  return inherited === undefined ? base : { ...base, inherited };
}

/** Port 53, or another where the host has a resolver of its own on all addresses: the agent then leads packets there. */
async function openAnyPort(
  listen: (options: ListenOptions) => Promise<Listener>,
  base: Omit<ListenOptions, 'port'>,
): Promise<Listener> {
  try {
    return await listen({ ...base, port: dnsPort });
  } catch (error) {
    if ((error as { readonly code?: unknown }).code !== 'EADDRINUSE') throw error;
    return listen({ ...base, port: 0 });
  }
}
