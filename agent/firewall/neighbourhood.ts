import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { acceptedMark } from '../../core/nft/table.js';
import type { Logger } from '../../lib/log.js';
import type { ListedChain } from '../../lib/nft/run.js';

const run = promisify(execFile);

export interface NeighbourhoodOptions {
  /** Whether the one rule may be put into DOCKER-USER. */
  readonly dockerUser: boolean;
  readonly log: Logger;
}

export interface Warning {
  readonly code: string;
  readonly message: string;
}

const families = [
  { family: 'ip', program: 'iptables' },
  { family: 'ip6', program: 'ip6tables' },
] as const;

const mark = `0x${acceptedMark.toString(16)}/0x${acceptedMark.toString(16)}`;
/** The rule in DOCKER-USER: accepts what our own table has accepted. The comment is our mark on it. */
const rule = ['-m', 'mark', '--mark', mark, '-m', 'comment', '--comment', 'tsnet', '-j', 'ACCEPT'];
const timeoutMs = 10_000;

/**
 * What others' tables do to forwarded packets. An accept in one table cannot undo a drop in another: where Docker has
 * set FORWARD to drop, one rule goes into the chain that it keeps for others; elsewhere the operator is told.
 */
export class Neighbourhood {
  readonly #options: NeighbourhoodOptions;
  #warnings: readonly Warning[] = [];
  readonly #placed = new Set<string>();

  constructor(options: NeighbourhoodOptions) {
    this.#options = options;
  }

  get warnings(): readonly Warning[] {
    return this.#warnings;
  }

  /** Looks at the chains of all tables, puts the rule where it is needed, and says what it cannot help. */
  async look(chains: readonly ListedChain[]): Promise<void> {
    const warnings: Warning[] = [];
    const opened = new Set<string>();
    for (const { family, program } of families) {
      const hasChain = chains.some(
        (chain) => chain.family === family && chain.table === 'filter' && chain.name === 'DOCKER-USER',
      );
      if (hasChain && this.#options.dockerUser && (await this.#ensureRule(program))) opened.add(family);
    }
    for (const chain of chains) {
      if (chain.hook !== 'forward' || chain.policy !== 'drop' || chain.table === 'tsnet') continue;
      if (opened.has(chain.family) && chain.table === 'filter' && chain.name === 'FORWARD') continue;
      warnings.push({ code: 'ERR_FORWARD_DROPPED', message: dropMessage(chain) });
    }
    this.#warnings = warnings;
  }

  /** Takes the rule back. */
  async leave(): Promise<void> {
    this.#warnings = [];
    for (const program of [...this.#placed]) {
      this.#placed.delete(program);
      await run(program, ['-w', '-D', 'DOCKER-USER', ...rule], { timeout: timeoutMs }).catch(() => undefined);
    }
  }

  async #ensureRule(program: string): Promise<boolean> {
    try {
      await run(program, ['-w', '-C', 'DOCKER-USER', ...rule], { timeout: timeoutMs });
    } catch {
      try {
        await run(program, ['-w', '-I', 'DOCKER-USER', ...rule], { timeout: timeoutMs });
        this.#options.log.info({ program }, 'put one rule into DOCKER-USER');
      } catch (error) {
        this.#options.log.warn({ program, error: String(error) }, 'could not put a rule into DOCKER-USER');
        return false;
      }
    }
    this.#placed.add(program);
    return true;
  }
}

function dropMessage({ family, table, name }: ListedChain): string {
  const words = `chain ${name} of table ${family} ${table}`;
  const help =
    name === 'FORWARD' && (family === 'ip' || family === 'ip6')
      ? `${family === 'ip' ? 'iptables' : 'ip6tables'} -I FORWARD -m mark --mark ${mark} -j ACCEPT`
      : `nft insert rule ${family} ${table} ${name} meta mark and 0x${acceptedMark.toString(16)} != 0 accept`;
  return `${words} drops forwarded packets unless a rule accepts them; for published ports and the way out: ${help}`;
}
