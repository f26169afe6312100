import type { DaemonContext } from './daemon.js';

/** Set by the bundler; not there when the compiled files run one by one. */
declare const TSNET_BUNDLED: boolean | undefined;

type Run<Options> = (options: Options, context: DaemonContext) => Promise<void>;

interface DaemonModule {
  readonly runController?: unknown;
  readonly runAgent?: unknown;
  readonly runDaemon: typeof import('./daemon.js').runDaemon;
}

/**
 * Loads a daemon's code, which the CLI's start must not wait for: `lib/NAME.cjs` beside the bundled
 * executable, or the compiled files.
 */
export async function loadDaemon<Options>(name: 'controller' | 'agent'): Promise<{ run: Run<Options>; runDaemon: DaemonModule['runDaemon'] }> {
  const isBundled = typeof TSNET_BUNDLED !== 'undefined' && TSNET_BUNDLED;
  const place = isBundled ? `../lib/${name}.cjs` : `./${name}-daemon.js`;
  const module = (await import(new URL(place, import.meta.url).href)) as DaemonModule;
  const run = name === 'controller' ? module.runController : module.runAgent;
  if (typeof run !== 'function') throw new Error(`${place} holds no daemon`);
  return { run: run as Run<Options>, runDaemon: module.runDaemon };
}
