import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { LabHost } from './host.js';
import { ProgramError } from './program.js';
import { privateEtcArgs } from './private-etc.js';

/** Debian's ufw on a host of the lab, with an /etc of its own that its runs share. */
export class Ufw {
  readonly #host: LabHost;
  readonly #folder: string;

  constructor(host: LabHost) {
    this.#host = host;
    this.#folder = join(host.options.folder, 'ufw');
    mkdirSync(this.#folder, { recursive: true });
  }

  /** Puts lines at the end of the filter table in a file of /etc/ufw, for the next reload. */
  addRules(name: 'before.rules' | 'before6.rules', lines: readonly string[]): void {
    const rules = readFileSync(join('/etc/ufw', name), 'utf8').replace(/^COMMIT$/m, [...lines, 'COMMIT'].join('\n'));
    // No overlay is there between two runs: this is its upper folder.
    const folder = join(this.#folder, 'etc/ufw');
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, name), rules, { mode: 0o640 });
  }

  /** Runs `ufw ARGS`, which has to succeed; its standard output. */
  async run(...args: string[]): Promise<string> {
    const result = await this.#host.exec(...privateEtcArgs(this.#folder), 'ufw', ...args);
    if (result.status !== 0) throw new ProgramError(result);
    return result.stdout;
  }
}
