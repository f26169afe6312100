import { readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { TableElement } from '../../core/nft/element.js';
import type { Logger } from '../../lib/log.js';
import type { NativeApi } from '../../native/api.js';

export interface ForwardingOptions {
  readonly native: NativeApi;
  readonly dataDir: string;
  /** Names of the links that packets of others may come in by. */
  readonly links: () => Promise<readonly string[]>;
  readonly log: Logger;
}

/** What was changed, so that it can be changed back by a later process as well. */
interface Changed {
  /** Links on which IPv4 forwarding was off. */
  readonly ipv4: readonly string[];
  readonly ipv6: boolean;
  /** Links (and `default`) that were told to go on listening to routers. */
  readonly acceptRa: readonly string[];
}

const nothing: Changed = { ipv4: [], ipv6: false, acceptRa: [] };
const fileName = 'forwarding.json';

/**
 * Turns on forwarding for our links where the host has it off, so that others can still tell, and for nobody else:
 * the table drops what is neither from nor to a link of ours while this host forwards for our sake only.
 *
 * IPv4: on each link, not by `ip_forward`. IPv6 has one switch for all; `conf/default/forwarding` stays off, and
 * whoever else turns forwarding on sets it. Before that, links that listen to routers are told to go on doing so as
 * forwarders (`accept_ra=2`), or the host would lose its default route.
 */
export class Forwarding {
  readonly #options: ForwardingOptions;
  #changed: Changed = nothing;
  #isLoaded = false;

  constructor(options: ForwardingOptions) {
    this.#options = options;
  }

  /** Turns forwarding on where it is off. The families that must stay closed to others, as elements. */
  async ensure(): Promise<TableElement[]> {
    await this.#load();
    const closed: TableElement[] = [];
    if (await this.#ensureIpv4()) closed.push({ set: 'closed', key: 'ipv4' });
    if (await this.#ensureIpv6()) closed.push({ set: 'closed', key: 'ipv6' });
    return closed;
  }

  /** Puts back what was changed, unless others have come to rely on it. */
  async restore(): Promise<void> {
    await this.#load();
    const { ipv4, ipv6, acceptRa } = this.#changed;
    if ((await this.#read('net/ipv4/ip_forward')) === '0')
      for (const link of ipv4) await this.#write(`net/ipv4/conf/${link}/forwarding`, '0');
    if (ipv6 && (await this.#read('net/ipv6/conf/default/forwarding')) === '0') {
      await this.#write('net/ipv6/conf/all/forwarding', '0');
      for (const link of acceptRa) await this.#write(`net/ipv6/conf/${link}/accept_ra`, '1');
    }
    this.#changed = nothing;
    await rm(join(this.#options.dataDir, fileName), { force: true });
  }

  /** Settings of one bridge of ours: packets come in by it, and those from 127.0.0.1 leave by it. */
  async ensureLink(link: string): Promise<void> {
    await this.#write(`net/ipv4/conf/${link}/forwarding`, '1');
    await this.#write(`net/ipv4/conf/${link}/route_localnet`, '1');
  }

  async #ensureIpv4(): Promise<boolean> {
    if ((await this.#read('net/ipv4/ip_forward')) !== '0') return false;
    const off: string[] = [];
    const links = await this.#options.links();
    for (const link of links) if ((await this.#read(`net/ipv4/conf/${link}/forwarding`)) === '0') off.push(link);
    if (off.length > 0) await this.#save({ ...this.#changed, ipv4: [...new Set([...this.#changed.ipv4, ...off])] });
    for (const link of off) await this.#write(`net/ipv4/conf/${link}/forwarding`, '1');
    return this.#changed.ipv4.length > 0;
  }

  async #ensureIpv6(): Promise<boolean> {
    const all = await this.#read('net/ipv6/conf/all/forwarding');
    if (all === null) return false;
    if (all !== '0') return this.#changed.ipv6 && (await this.#read('net/ipv6/conf/default/forwarding')) === '0';
    const acceptRa: string[] = [];
    for (const link of [...(await this.#options.links()), 'default']) {
      if ((await this.#read(`net/ipv6/conf/${link}/accept_ra`)) === '1') acceptRa.push(link);
    }
    await this.#save({
      ...this.#changed,
      ipv6: true,
      acceptRa: [...new Set([...this.#changed.acceptRa, ...acceptRa])],
    });
    for (const link of acceptRa) await this.#write(`net/ipv6/conf/${link}/accept_ra`, '2');
    await this.#write('net/ipv6/conf/all/forwarding', '1');
    await this.#write('net/ipv6/conf/default/forwarding', '0');
    return true;
  }

  async #load(): Promise<void> {
    if (this.#isLoaded) return;
    this.#isLoaded = true;
    const text = await readFile(join(this.#options.dataDir, fileName), 'utf8').catch(() => null);
    if (text === null) return;
    try {
      const { ipv4, ipv6, acceptRa } = JSON.parse(text) as Partial<Changed>;
      const names = (value: unknown): string[] =>
        Array.isArray(value) ? value.filter((each): each is string => typeof each === 'string' && isName(each)) : [];
      this.#changed = { ipv4: names(ipv4), ipv6: ipv6 === true, acceptRa: names(acceptRa) };
    } catch {
      this.#options.log.warn(
        { file: fileName },
        'what was changed for forwarding cannot be read: it will not be changed back',
      );
    }
  }

  /** Written before the change: a crash in between costs a needless change back. */
  async #save(changed: Changed): Promise<void> {
    this.#changed = changed;
    const path = join(this.#options.dataDir, fileName);
    await writeFile(`${path}.new`, JSON.stringify(changed), { mode: 0o600 });
    await rename(`${path}.new`, path);
  }

  async #read(path: string): Promise<string | null> {
    return this.#options.native.sysctlRead(path).then(
      (text) => text.trim(),
      () => null,
    );
  }

  /** A link that has just gone has no settings any more. */
  async #write(path: string, value: string): Promise<void> {
    try {
      await this.#options.native.sysctlWrite(path, value);
    } catch (error) {
      if ((error as { readonly code?: unknown }).code !== 'ENOENT') throw error;
    }
  }
}

function isName(text: string): boolean {
  return /^[^/\s]{1,15}$/.test(text) && !text.startsWith('.');
}
