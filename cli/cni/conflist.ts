import type { Runtime } from './runtimes.js';

/** What a configuration list of ours is made of. */
export interface ConflistOptions {
  readonly name: string;
  readonly runtime: Runtime;
  readonly network: string;
  readonly cniVersion: string;
  /** Null: where agents listen by default. */
  readonly agentSocket: string | null;
}

/** Everything that runtimes can hand over; one that is not declared is silently not handed over at all. */
const capabilities = {
  portMappings: true,
  ips: true,
  mac: true,
  aliases: true,
  bandwidth: true,
  dns: true,
  ipRanges: true,
};

/** The plugin's own configuration. `runtime` is private: it tells the attachments of runtimes on one host apart. */
export function pluginConfig({ runtime, network, agentSocket }: ConflistOptions): object {
  return { type: 'tsnet', network, runtime, ...(agentSocket === null ? {} : { agentSocket }), capabilities };
}

/** The text of a configuration list. */
export function formatConflist(options: ConflistOptions): string {
  const { cniVersion, name } = options;
  return `${JSON.stringify({ cniVersion, name, plugins: [pluginConfig(options)] }, null, 2)}\n`;
}

/** What a file says that is a configuration list of ours; null for all others. */
export function parseOwnConflist(
  text: string,
): { readonly name: string; readonly runtime: string; readonly network: string } | null {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return null;
  }
  if (!isRecord(value) || !Array.isArray(value['plugins'])) return null;
  const own = value['plugins'].find((plugin) => isRecord(plugin) && plugin['type'] === 'tsnet');
  if (!isRecord(own) || typeof own['runtime'] !== 'string' || typeof value['name'] !== 'string') return null;
  const { name } = value;
  return { name, runtime: own['runtime'], network: typeof own['network'] === 'string' ? own['network'] : name };
}

/** The network's name in any configuration; null where there is none. */
export function parseConfigName(text: string): string | null {
  try {
    const value: unknown = JSON.parse(text);
    return isRecord(value) && typeof value['name'] === 'string' ? value['name'] : null;
  } catch {
    return null;
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
