import { canonicalAddr, canonicalPrefix, parseAddr } from '../core/addr.js';
import type { SandboxState } from '../core/attacher.js';
import type { Environment } from './environment.js';
import { cniCode, CniError } from './error.js';
import type { Result } from './result.js';

/**
 * Compares the final result of a chain with what the kernel has. More than is listed is fine: later plugins add to it.
 * Errors: 7 where the result is not about this sandbox; 102 where something listed is missing or different.
 */
export function checkState(result: Result, environment: Environment, state: SandboxState): void {
  const { ifname, netns } = environment;
  const index = result.interfaces.findIndex(({ name, sandbox }) => name === ifname && sandbox === netns);
  const own = result.interfaces[index];
  if (own === undefined)
    throw new CniError(cniCode.invalidConfig, `prevResult has no interface ${ifname} in sandbox ${netns}`);
  const { link } = state;
  if (link === null) throw broken(`interface ${ifname} is missing in ${netns}`);
  if (own.mac !== undefined && own.mac.toLowerCase() !== link.mac)
    throw broken(`interface ${ifname} has MAC ${link.mac}, not ${own.mac}`);
  if (!link.isUp) throw broken(`interface ${ifname} is down`);
  checkHostLinks(result, state);
  const present = new Set(state.addresses.map(normalAddress));
  for (const ip of result.ips) {
    if (ip.interface !== undefined && ip.interface !== index) continue;
    if (!present.has(normalAddress(ip.address))) throw broken(`interface ${ifname} lacks address ${ip.address}`);
  }
  for (const route of result.routes) {
    if (route.table !== undefined && route.table !== 254) continue;
    const dst = normalPrefix(route.dst);
    const gateway = route.gw === undefined ? undefined : normalAddr(route.gw);
    const isThere = state.routes.some(
      (each) =>
        normalPrefix(each.dst) === dst &&
        (gateway === undefined || (each.gateway !== null && normalAddr(each.gateway) === gateway)),
    );
    if (!isThere) throw broken(`${netns} lacks route ${route.dst}${route.gw === undefined ? '' : ` via ${route.gw}`}`);
  }
}

/** An attachment that is not as it was reported; ours to number. */
export const brokenCode = 102;

export function broken(message: string): CniError {
  return new CniError(brokenCode, message, 'the agent repairs what it made; DEL and ADD make it anew');
}

/** The host's interfaces are there, and our end is a port of the bridge that stands before it. */
function checkHostLinks(result: Result, state: SandboxState): void {
  const names = result.interfaces.filter(({ sandbox }) => sandbox === undefined).map(({ name }) => name);
  for (const name of names) {
    const link = state.hostLinks.find((each) => each.name === name);
    if (link === undefined) throw broken(`link ${name} is missing on the host`);
    if (name.startsWith('tsv-') && (link.master === null || !names.includes(link.master)))
      throw broken(`link ${name} is no port of its bridge`);
  }
}

function normalAddr(text: string): string {
  try {
    return canonicalAddr(text);
  } catch {
    return text;
  }
}

function normalAddress(text: string): string {
  const [address = '', length = ''] = text.split('/');
  return `${normalAddr(address)}/${length}`;
}

function normalPrefix(text: string): string {
  try {
    if (!text.includes('/')) return `${normalAddr(text)}/${parseAddr(text).family === 4 ? 32 : 128}`;
    return canonicalPrefix(text);
  } catch {
    return text;
  }
}
