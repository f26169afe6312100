import { TsnetError } from '../core/errors.js';

/** The kernel's refusal as an error of ours. */
export function kernelError(cause: unknown): TsnetError {
  if (cause instanceof TsnetError) return cause;
  return new TsnetError('ERR_KERNEL', cause instanceof Error ? cause.message : String(cause), { cause });
}

/** The parent of a macvlan link is not there. */
export function parentUnknown(parent: string, link: string): TsnetError {
  return new TsnetError('ERR_PARENT_UNKNOWN', `options.parent: this host has no interface ${JSON.stringify(parent)}`, {
    details: { field: 'options.parent', value: parent, link },
  });
}

/** A bridge has as many ports as it can have. */
export function portsExhausted(bridge: string, link: string, cause: unknown): TsnetError {
  const text = `bridge ${bridge} has no free port for ${link}`;
  return new TsnetError('ERR_PORTS_EXHAUSTED', text, { details: { bridge, link }, cause });
}
