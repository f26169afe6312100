import { join } from 'node:path';
import type { LabHost } from '../lab/host.js';
import { enterArgs, netnsPath } from '../lab/netns.js';
import { cniEnv, referenceDir, runPlugin, shimPath } from './program.js';
import type { ResultJson } from './runtime.js';

export interface PluginConfig {
  readonly type: string;
  readonly [key: string]: unknown;
}

/** A list of plugins as a runtime runs it, tsnet first. */
export class Chain {
  #result: ResultJson | undefined;

  constructor(
    readonly host: LabHost,
    readonly plugins: readonly PluginConfig[],
    readonly container: { readonly id: string; readonly netns: string },
  ) {}

  /** By each plugin in order; the last one's result. */
  async add(): Promise<ResultJson> {
    for (const plugin of this.plugins) {
      const result = await this.#run('ADD', plugin);
      this.#result = result as ResultJson;
    }
    if (this.#result === undefined) throw new Error('no plugin has printed a result');
    return this.#result;
  }

  /** By each plugin in order but Debian's portmap, which asks for IPv6 rules of a container without IPv6. */
  async check(): Promise<void> {
    for (const plugin of this.plugins) if (plugin.type !== 'portmap') await this.#run('CHECK', plugin);
  }

  /** By each plugin, the last one first. */
  async del(): Promise<void> {
    for (const plugin of [...this.plugins].reverse()) await this.#run('DEL', plugin);
    this.#result = undefined;
  }

  async #run(command: string, plugin: PluginConfig): Promise<unknown> {
    const own = plugin.type === 'tsnet' ? { agentSocket: this.host.socket } : {};
    const prevResult = this.#result === undefined ? {} : { prevResult: this.#result };
    const called = await runPlugin({
      env: cniEnv(command, this.container),
      stdin: JSON.stringify({ cniVersion: '1.0.0', name: 'net', ...plugin, ...own, ...prevResult }),
      enter: enterArgs(netnsPath(this.host.netns)),
      program: plugin.type === 'tsnet' ? shimPath : join(referenceDir, plugin.type),
    });
    if (called.status !== 0) throw new Error(`${plugin.type} ${command}: ${called.stdout}${called.stderr}`);
    return called.json;
  }
}
