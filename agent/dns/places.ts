import { fstatSync } from 'node:fs';
import { insideAddress } from '../../core/dns/resolver.js';
import type { Logger } from '../../lib/log.js';
import type { NativeApi, NetnsHandle, NetnsRef } from '../../native/api.js';
import { parseTarget } from '../attach/target.js';
import { ConnectionShare } from './connection-share.js';
import type { ListenOptions } from './listener.js';
import { closeSockets, openPlace, type OpenPlace, type PlaceSockets } from './open-place.js';
import type { DnsPlace, DnsSocket, ToAgent } from './protocol.js';
import type { Responder } from './responder.js';
import { vanishedSandboxes } from './sandbox-anchors.js';
import type { DnsTables } from './tables.js';

export interface PlacesOptions {
  readonly native: NativeApi;
  readonly tables: DnsTables;
  readonly responder: Responder;
  readonly log: Logger;
  /** Open sockets that are taken over, by place. */
  readonly inherited: Map<string, PlaceSockets>;
  /** Where is listened has changed. */
  readonly onChange: () => void;
  /** Sockets were opened or closed, on the host or inside a sandbox. */
  readonly onSockets: (message: SocketsMessage) => void;
}

export type SocketsMessage = Extract<ToAgent, { readonly say: 'open' | 'closed' }>;

const sweepMs = 1000;
const retryMs = 2000;
/** Longer than the agent takes to close its duplicates. */
const closingMs = 1000;

/**
 * The open sockets: on this host's addresses in its networks, and inside the sandboxes that cannot reach those. What
 * stays wanted stays open, whatever else changes. A socket keeps its namespace alive, so those inside are closed as soon
 * as the sandbox's anchor (process or path) leads elsewhere; that is looked at here, for the agent may be away.
 */
export class Places {
  readonly #options: PlacesOptions;
  readonly #onHost = new Map<string, OpenPlace | 'opening'>();
  readonly #inside = new Map<string, OpenPlace | 'opening' | 'gone'>();
  /** By address, whose it is. */
  #networks: ReadonlyMap<string, string> = new Map();
  readonly #ports = new Map<string, readonly DnsPlace[]>();
  readonly #failed = new Map<string, string>();
  readonly #connections = new ConnectionShare();
  /** Places that were closed lately, and when. */
  readonly #closedMs = new Map<string, number>();
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

  /** Whether an address of this host is just being opened. */
  get isOpening(): boolean {
    return [...this.#onHost.values()].includes('opening');
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
      this.#close(address, open);
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
    return new Map([...this.#open()].map(([place, { udp, tcp }]) => [place, { udp: udp.fd, tcp: tcp.fd }]));
  }

  /** Says of all sockets that they are open. */
  tellSockets(): void {
    for (const [place, open] of this.#open()) this.#tellOpen(place, open);
  }

  /** Takes nothing more: another process goes on with the sockets. What is under way is finished. */
  pause(): void {
    clearInterval(this.#sweepTimer);
    clearTimeout(this.#retryTimer);
    for (const [, open] of this.#open()) {
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
    for (const [, open] of this.#open()) open.close();
  }

  *#open(): Generator<readonly [string, OpenPlace]> {
    for (const [place, open] of this.#onHost) if (typeof open === 'object') yield [place, open];
    for (const [place, open] of this.#inside) if (typeof open === 'object') yield [place, open];
  }

  #close(place: string, open: OpenPlace): void {
    const nowMs = performance.now();
    for (const [before, atMs] of this.#closedMs) if (nowMs - atMs > closingMs) this.#closedMs.delete(before);
    open.close();
    this.#closedMs.set(place, nowMs);
    this.#options.onSockets({ say: 'closed', place });
  }

  #tellOpen(place: string, { udp, tcp }: OpenPlace): void {
    this.#options.onSockets({ say: 'open', place, udp: socketOf(udp.fd), tcp: socketOf(tcp.fd) });
  }

  #againUntilMs(place: string): number {
    return (this.#closedMs.get(place) ?? -Infinity) + closingMs;
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
      const open = await openPlace(base, { inherited, atAnyPort: true, againUntilMs: this.#againUntilMs(address) });
      this.#onHost.set(address, open);
      this.#tellOpen(address, open);
      this.#failed.delete(address);
      this.#ports.set(address, [
        { address, protocol: 'udp', port: open.udp.port },
        { address, protocol: 'tcp', port: open.tcp.port },
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
      if (open !== 'gone') this.#close(sandbox, open);
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
      const base = { ...this.#base(), address: insideAddress, netns, scopeOf };
      const taken = inherited;
      inherited = undefined;
      const againUntilMs = this.#againUntilMs(sandbox);
      const open = await openPlace(base, { inherited: taken, atAnyPort: false, againUntilMs });
      this.#inside.set(sandbox, open);
      this.#tellOpen(sandbox, open);
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
    if (this.#inside.size === 0) return;
    const anchors = new Map<string, string>();
    for (const { sandbox, inside } of this.#options.tables.own())
      if (sandbox !== null && inside !== null && typeof this.#inside.get(sandbox) === 'object')
        anchors.set(sandbox, inside);
    if (anchors.size === 0) return;
    for (const sandbox of await vanishedSandboxes(this.#options.native, anchors)) {
      const state = this.#inside.get(sandbox);
      if (typeof state !== 'object') continue;
      this.#close(sandbox, state);
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

function socketOf(fd: number): DnsSocket {
  return { fd, inode: fstatSync(fd).ino };
}
