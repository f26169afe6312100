import type { ServiceCreate } from '../core/api/service.js';
import { TsnetError } from '../core/errors.js';
import type { PortProtocol, ServiceHealth } from '../core/model.js';
import { present } from './parse.js';

/** Parts of services as command lines have them. Errors of all: ERR_USAGE. */

/** Where the interface has a service. */
export function servicePath(ref: string): string {
  return `/v1/services/${encodeURIComponent(ref)}`;
}

function usage(message: string): never {
  throw new TsnetError('ERR_USAGE', message, { hint: 'See `tsnet help service create`.' });
}

function numberOf(text: string | undefined): number | undefined {
  return text === undefined ? undefined : Number(text);
}

/** `P[:TARGET][/PROTOCOL]`. */
export function parsePortText(text: string): ServiceCreate['ports'][number] {
  const match = /^(\d{1,5})(?::(\d{1,5}))?(?:\/(tcp|udp|sctp))?$/.exec(text);
  if (match === null) usage(`"${text}" is no port: write PORT[:TARGET][/tcp|udp|sctp]`);
  const [, port, target, protocol] = match;
  return present({
    port: Number(port),
    target: numberOf(target),
    protocol: protocol as PortProtocol | undefined,
  });
}

/** `HOSTPORT[:PORT]`. */
export function parsePublishText(text: string): NonNullable<ServiceCreate['publish']>[number] {
  const match = /^(\d{1,5})(?::(\d{1,5}))?$/.exec(text);
  if (match === null) usage(`"${text}" is no port to publish: write HOSTPORT[:PORT]`);
  return present({ hostPort: Number(match[1]), port: numberOf(match[2]) });
}

/** `tcp` or `http:/path`. */
export function parseHealthText(text: string): ServiceHealth {
  if (text === 'tcp') return { type: 'tcp' };
  if (text.startsWith('http:/')) return { type: 'http', path: text.slice('http:'.length) };
  return usage(`"${text}" is no health check: write tcp or http:/PATH`);
}
