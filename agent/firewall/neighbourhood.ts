import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { acceptedMark } from '../../core/nft/filter-chains.js';
import type { Logger } from '../../lib/log.js';
import type { ListedChain } from '../../lib/nft/run.js';

const run = promisify(execFile);

export interface NeighbourhoodOptions {
  /** Whether the one rule may be put into DOCKER-USER. */
  readonly dockerUser: boolean;
  readonly log: Logger;
}

/** The rules of a chain as text; empty when it has just gone. */
export type RulesOf = (chain: Pick<ListedChain, 'family' | 'table' | 'name'>) => Promise<string>;

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
/** Docker with thousands of published ports has as many rules. */
const maxBuffer = 64 * 1024 * 1024;
/** Chains in which Docker jumps to `DOCKER` for each of its bridges: until version 27, and since. */
const bridgeChains = ['FORWARD', 'DOCKER-BRIDGE'] as const;

/**
 * What others' tables do to forwarded packets. An accept in one table cannot undo a drop in another: where Docker has
 * set FORWARD to drop, one rule goes into the chain that it keeps for others; elsewhere the operator is told.
 */
export class Neighbourhood {
  readonly #options: NeighbourhoodOptions;
  #warnings: readonly Warning[] = [];
  readonly #placed = new Set<string>();
  #dockerBridges: readonly string[] = [];

  constructor(options: NeighbourhoodOptions) {
    this.#options = options;
  }

  get warnings(): readonly Warning[] {
    return this.#warnings;
  }

  /** Bridges of Docker's containers, where our rule is in its chain: it is not meant to open those. */
  get dockerBridges(): readonly string[] {
    return this.#dockerBridges;
  }

  /** Looks at the chains of all tables, puts the rule where it is needed, and says what it cannot help. */
  async look(chains: readonly ListedChain[], rulesOf: RulesOf): Promise<void> {
    const warnings: Warning[] = [];
    const opened = new Set<string>();
    const bridges = new Set<string>();
    for (const { family, program } of families) {
      const hasChain = chains.some(
        (chain) => chain.family === family && chain.table === 'filter' && chain.name === 'DOCKER-USER',
      );
      if (!hasChain || !this.#options.dockerUser) continue;
      for (const bridge of await dockerBridgesOf(program)) bridges.add(bridge);
      if (await this.#ensureRule(program)) opened.add(family);
    }
    this.#dockerBridges = [...bridges];
    for (const chain of chains) {
      if (chain.table === 'firewalld' && chain.hook === 'forward') {
        const zones = await rulesOf({ ...chain, name: 'filter_FORWARD_ZONES' });
        if (!zones.includes('iifname "tsb-')) warnings.push({ code: 'ERR_FORWARD_DROPPED', message: firewalldMessage });
      }
      if (chain.hook !== 'forward' || chain.policy !== 'drop' || chain.table === 'tsnet') continue;
      if (opened.has(chain.family) && chain.table === 'filter' && chain.name === 'FORWARD') continue;
      if (await acceptsOurs(chain, rulesOf)) continue;
      warnings.push({ code: 'ERR_FORWARD_DROPPED', message: dropMessage(chain) });
    }
    this.#warnings = warnings;
  }

  /** Takes the rule back. */
  async leave(): Promise<void> {
    this.#warnings = [];
    this.#dockerBridges = [];
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

/** An accept of our mark, as nft lists it, its own rules and those of iptables. */
const acceptRule = new RegExp(
  `^\\s*meta mark & 0x0*${acceptedMark.toString(16)} (== 0x0*${acceptedMark.toString(16)}|!= 0x0+)( counter packets \\d+ bytes \\d+)? accept\\b`,
  'm',
);
/** Chains that are looked into beside the first: front ends put their users' rules one jump away. */
const maxJumps = 32;

/** Whether the operator has done what the warning says, in the chain or in one that all packets in it are sent to. */
async function acceptsOurs(chain: ListedChain, rulesOf: RulesOf): Promise<boolean> {
  const rules = await rulesOf(chain);
  if (acceptRule.test(rules)) return true;
  const jumps = rules.matchAll(/^\s*(?:counter packets \d+ bytes \d+ )?jump ([\w-]+)$/gm);
  for (const [, name = ''] of [...jumps].slice(0, maxJumps))
    if (acceptRule.test(await rulesOf({ ...chain, name }))) return true;
  return false;
}

/** A container's bridge is what Docker sends on to its chain of published ports. */
async function dockerBridgesOf(program: string): Promise<string[]> {
  const listings = bridgeChains.map((chain) =>
    run(program, ['-w', '-S', chain], { timeout: timeoutMs, maxBuffer }).then(
      ({ stdout }) => stdout,
      () => '',
    ),
  );
  const lines = (await Promise.all(listings)).join('').split('\n');
  return lines.flatMap((line) => /^-A \S+ -o ([\w.-]{1,15}) -j DOCKER$/.exec(line)?.[1] ?? []);
}

const firewalldMessage =
  'firewalld rejects what is forwarded between zones, and on bridges as well; for our containers: ' +
  'firewall-cmd --permanent --zone=trusted --add-interface=tsb-+ (then firewall-cmd --reload)';

function dropMessage({ family, table, name }: ListedChain): string {
  const words = `chain ${name} of table ${family} ${table}`;
  const help =
    name === 'FORWARD' && (family === 'ip' || family === 'ip6')
      ? `${family === 'ip' ? 'iptables' : 'ip6tables'} -I FORWARD -m mark --mark ${mark} -j ACCEPT`
      : `nft insert rule ${family} ${table} ${name} meta mark and 0x${acceptedMark.toString(16)} != 0 accept`;
  return `${words} drops forwarded packets unless a rule accepts them; for published ports and the way out: ${help}`;
}
