import { readFileSync, statSync } from 'node:fs';
import { parseResolvConf, type ResolverSettings } from '../../core/dns/resolver.js';

const lookMs = 1000;
const none: ResolverSettings = { nameservers: [], search: [], options: [] };

/** The host's own resolver settings, read again when the file has changed, looked at once a second at most. */
export class HostResolver {
  readonly #path: string;
  #settings: ResolverSettings = none;
  #stamp = '';
  #lookedMs = -Infinity;

  constructor(path = '/etc/resolv.conf') {
    this.#path = path;
  }

  get(nowMs: number = performance.now()): ResolverSettings {
    if (nowMs - this.#lookedMs < lookMs) return this.#settings;
    this.#lookedMs = nowMs;
    try {
      const { mtimeMs, ino, size } = statSync(this.#path);
      const stamp = `${mtimeMs} ${ino} ${size}`;
      if (stamp !== this.#stamp) {
        this.#settings = parseResolvConf(readFileSync(this.#path, 'utf8'));
        this.#stamp = stamp;
      }
    } catch {
      // In the middle of being replaced: the old one goes on.
      this.#stamp = '';
    }
    return this.#settings;
  }
}
