import { endpointNames } from '../../core/dns/names.js';
import { TsnetError } from '../../core/errors.js';
import type { NativeApi } from '../../native/api.js';
import type { OwnIndex } from '../attach/own-index.js';
import { parseTarget } from '../attach/target.js';
import type { OwnEndpoint } from '../journal/entries.js';
import type { Journal } from '../journal/journal.js';

/** Where `ip netns add` binds its namespaces. */
const netnsDir = '/run/netns';

export interface OwnFinderOptions {
  readonly native: Pick<NativeApi, 'netnsCookies'>;
  readonly journal: Journal;
  readonly own: OwnIndex;
}

/** Finds endpoints of this host by what people call them or their sandbox. */
export class OwnFinder {
  readonly #options: OwnFinderOptions;

  constructor(options: OwnFinderOptions) {
    this.#options = options;
  }

  /**
   * By endpoint id, caller's id, name, `pid:N`, `netns:PATH`, or the name of a namespace in /run/netns: the first that
   * fits, in this order. Errors: ERR_ENDPOINT_UNKNOWN, ERR_SANDBOX_MISSING, ERR_INVALID_TARGET.
   */
  async find(ref: string): Promise<OwnEndpoint> {
    const all = [...this.#options.journal.endpoints()];
    const isTarget = /^(pid|netns):/.test(ref);
    const found = isTarget
      ? await this.#inSandbox(ref)
      : (all.find(({ record }) => record.id === ref || record.callerId === ref) ??
        all.find(({ record }) => endpointNames(record).includes(ref.toLowerCase())) ??
        (await this.#inNamed(ref)));
    if (found !== undefined) return found;
    const message = isTarget ? `no endpoint of this host is in ${ref}` : `no endpoint of this host is ${ref}`;
    throw new TsnetError('ERR_ENDPOINT_UNKNOWN', message, { details: { value: ref } });
  }

  async #inNamed(name: string): Promise<OwnEndpoint | undefined> {
    if (name.includes('/') || name.includes('\0') || name === '.' || name === '..') return undefined;
    return this.#inSandbox(`netns:${netnsDir}/${name}`).catch(() => undefined);
  }

  /** An endpoint in the namespace itself, however it was called when it was attached: all of one sandbox see the same. */
  async #inSandbox(text: string): Promise<OwnEndpoint | undefined> {
    const [cookie] = await this.#options.native.netnsCookies([parseTarget(text).ref]);
    if (typeof cookie === 'bigint')
      return this.#options.own.ofSandbox(String(cookie)).find(({ record }) => record.state !== 'detaching');
    if (cookie !== 'ENOENT' && cookie !== 'ESRCH') return undefined;
    throw new TsnetError('ERR_SANDBOX_MISSING', `${text}: there is no such process or namespace`, {
      details: { target: text },
    });
  }
}
