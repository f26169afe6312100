import { randomInt } from 'node:crypto';
import { TsnetError } from '../../core/errors.js';
import type { PortMapping, PortProtocol } from '../../core/model.js';
import { formatPort, portCount, portsConflict } from '../../core/ports.js';

/** Who else may hold a port of this host: sockets. Names the first that stands in the way, or null. */
export type FindListener = (
  mappings: readonly PortMapping[],
) => Promise<{ readonly mapping: PortMapping; readonly holder: string } | null>;

interface Claim {
  readonly endpoint: string;
  readonly mapping: PortMapping;
}

/** IANA's dynamic ports (RFC 6335 §6); a port to be chosen is taken from here. */
const firstChosen = 49_152;
const lastChosen = 65_535;
const chooseTries = 64;

/** Ports by their upper bits: a claim stands on each page that it has a port of. */
const pageBits = 6;

/** Claims on ports of one protocol, by pages of 64: a look-up does not grow with what is claimed elsewhere. */
class ProtocolBook {
  readonly #pages = new Map<number, Set<Claim>>();

  /** The claim that stands in a mapping's way, one's own left aside. */
  conflict(mapping: PortMapping, own?: string): Claim | undefined {
    for (let page = mapping.hostPort >> pageBits; page <= mapping.hostPortEnd >> pageBits; page++) {
      for (const claim of this.#pages.get(page) ?? [])
        if (claim.endpoint !== own && portsConflict(claim.mapping, mapping)) return claim;
    }
    return undefined;
  }

  add(claim: Claim): void {
    const { hostPort, hostPortEnd } = claim.mapping;
    for (let page = hostPort >> pageBits; page <= hostPortEnd >> pageBits; page++) {
      const claims = this.#pages.get(page);
      if (claims === undefined) this.#pages.set(page, new Set([claim]));
      else claims.add(claim);
    }
  }

  remove(claim: Claim): void {
    const { hostPort, hostPortEnd } = claim.mapping;
    for (let page = hostPort >> pageBits; page <= hostPortEnd >> pageBits; page++) {
      const claims = this.#pages.get(page);
      claims?.delete(claim);
      if (claims?.size === 0) this.#pages.delete(page);
    }
  }
}

/** Which endpoint of this host holds which port of it. */
export class PortBook {
  readonly #books: Readonly<Record<PortProtocol, ProtocolBook>> = {
    tcp: new ProtocolBook(),
    udp: new ProtocolBook(),
    sctp: new ProtocolBook(),
  };
  readonly #claims = new Map<string, Claim[]>();
  readonly #findListener: FindListener;
  /** Says who an endpoint is, for messages. */
  readonly #nameOf: (endpoint: string) => string;

  constructor(options: { readonly findListener: FindListener; readonly nameOf: (endpoint: string) => string }) {
    this.#findListener = options.findListener;
    this.#nameOf = options.nameOf;
  }

  /** Takes up what an endpoint holds already. */
  restore(endpoint: string, mappings: readonly PortMapping[]): void {
    this.release(endpoint);
    this.#add(endpoint, mappings);
  }

  /**
   * Reports whether mappings could be had, without taking them.
   * Errors: ERR_PORT_IN_USE, naming the holder.
   */
  async check(mappings: readonly PortMapping[]): Promise<void> {
    const given = mappings.filter(({ hostPort }) => hostPort !== 0);
    this.#assertFree(given);
    await this.#assertSilent(given);
  }

  /**
   * Takes ports for an endpoint, all or none, and chooses those that are 0.
   * Errors: ERR_PORT_IN_USE, naming the holder.
   */
  claim(endpoint: string, mappings: readonly PortMapping[]): Promise<PortMapping[]> {
    return this.#claim(endpoint, mappings);
  }

  /**
   * Takes ports in place of those that an endpoint has, all or none; until then it has both.
   * Errors: ERR_PORT_IN_USE, naming the holder.
   */
  async change(endpoint: string, mappings: readonly PortMapping[]): Promise<PortMapping[]> {
    const held = new Map((this.#claims.get(endpoint) ?? []).map(({ mapping }) => [formatPort(mapping), mapping]));
    const kept = mappings.map((mapping) => (held.size === 0 ? undefined : held.get(formatPort(mapping))));
    const fresh = mappings.filter((_mapping, index) => kept[index] === undefined);
    const meanwhile = `${endpoint} changing`;
    const taken = await this.#claim(meanwhile, fresh, endpoint);
    this.release(meanwhile);
    this.release(endpoint);
    let used = 0;
    const now = mappings.map((mapping, index) => kept[index] ?? taken[used++] ?? mapping);
    this.#add(endpoint, now);
    return now;
  }

  async #claim(endpoint: string, mappings: readonly PortMapping[], own?: string): Promise<PortMapping[]> {
    if (mappings.length === 0) return [];
    this.#assertFree(
      mappings.filter(({ hostPort }) => hostPort !== 0),
      own,
    );
    const avoided = new Set<number>();
    for (;;) {
      const taken = this.#take(endpoint, mappings, avoided);
      try {
        const isChosen = mappings.map(({ hostPort }) => hostPort === 0);
        const chosen = taken.filter((_mapping, index) => isChosen[index] === true);
        await this.#assertSilent(taken.filter((_mapping, index) => isChosen[index] !== true));
        const busy = chosen.length === 0 ? null : await this.#findListener(chosen);
        if (busy === null) return taken;
        avoided.add(busy.mapping.hostPort);
        this.release(endpoint);
        if (avoided.size >= chooseTries) throw noneLeft(busy.mapping);
      } catch (error) {
        this.release(endpoint);
        throw error;
      }
    }
  }

  release(endpoint: string): void {
    for (const claim of this.#claims.get(endpoint) ?? []) this.#books[claim.mapping.protocol].remove(claim);
    this.#claims.delete(endpoint);
  }

  #take(endpoint: string, mappings: readonly PortMapping[], avoided: ReadonlySet<number>): PortMapping[] {
    const taken: PortMapping[] = [];
    try {
      // Chosen last, so that they go round those that are given.
      const order = [...mappings.keys()].sort(
        (a, b) => Number(mappings[a]?.hostPort === 0) - Number(mappings[b]?.hostPort === 0),
      );
      for (const index of order) {
        const mapping = mappings[index];
        if (mapping === undefined) continue;
        const chosen = mapping.hostPort === 0 ? this.#choose(mapping, avoided) : mapping;
        this.#add(endpoint, [chosen]);
        taken[index] = chosen;
      }
      return taken;
    } catch (error) {
      this.release(endpoint);
      throw error;
    }
  }

  #choose(mapping: PortMapping, avoided: ReadonlySet<number>): PortMapping {
    const length = portCount(mapping);
    const span = lastChosen - firstChosen + 2 - length;
    const start = span > 0 ? randomInt(span) : 0;
    for (let step = 0; step < span; step++) {
      const hostPort = firstChosen + ((start + step) % span);
      if (avoided.has(hostPort)) continue;
      const candidate = { ...mapping, hostPort, hostPortEnd: hostPort + length - 1 };
      if (this.#books[mapping.protocol].conflict(candidate) === undefined) return candidate;
    }
    throw noneLeft(mapping);
  }

  #add(endpoint: string, mappings: readonly PortMapping[]): void {
    const claims = this.#claims.get(endpoint) ?? [];
    for (const mapping of mappings) {
      const claim = { endpoint, mapping };
      claims.push(claim);
      this.#books[mapping.protocol].add(claim);
    }
    this.#claims.set(endpoint, claims);
  }

  #assertFree(mappings: readonly PortMapping[], own?: string): void {
    for (const mapping of mappings) {
      const claim = this.#books[mapping.protocol].conflict(mapping, own);
      if (claim !== undefined)
        throw portInUse(mapping, `${this.#nameOf(claim.endpoint)}, which publishes ${formatPort(claim.mapping)}`);
    }
  }

  async #assertSilent(mappings: readonly PortMapping[]): Promise<void> {
    const busy = mappings.length === 0 ? null : await this.#findListener(mappings);
    if (busy !== null) throw portInUse(busy.mapping, busy.holder);
  }
}

function portInUse(mapping: PortMapping, holder: string): TsnetError {
  return new TsnetError('ERR_PORT_IN_USE', `ports: ${formatPort(mapping)} is held by ${holder}`, {
    details: { field: 'ports', value: formatPort(mapping), holder },
  });
}

function noneLeft(mapping: PortMapping): TsnetError {
  const message = `ports: no ${portCount(mapping)} free ${mapping.protocol} ports in a row from ${firstChosen} to ${lastChosen}`;
  return new TsnetError('ERR_PORT_IN_USE', message, {
    details: { field: 'ports', value: formatPort(mapping), holder: '' },
  });
}
