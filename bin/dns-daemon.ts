import { runDnsServer, type DnsServerOptions } from '../agent/dns/server.js';
import type { LogLevel } from '../lib/log.js';
import { runDaemon } from './daemon.js';
import { optimiseSooner } from './hot-code.js';

/** Runs the name server in this process until a signal or the agent stops it. */
export function runDnsDaemon(options: DnsServerOptions & { readonly logLevel: LogLevel }): Promise<void> {
  optimiseSooner();
  return runDaemon('dns', options.logLevel, (context) => runDnsServer(options, context));
}
