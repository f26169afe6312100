import { TsnetError, toTsnetError } from '../../core/errors.js';
import { isNetlinkError } from '../../lib/netlink/errors.js';
import { portsExhausted } from '../kernel-error.js';
import type { LinkTable } from './link-table.js';
import { formatReconcileObject, isLink, type ReconcileObject } from './object.js';

/** An unmarked link stands where ours should. */
export function linkConflict(name: string): TsnetError {
  return new TsnetError('ERR_LINK_CONFLICT', `link ${name} exists and is not tsnet's`, { details: { link: name } });
}

/** Names what the kernel refused, with the code that fits. The link table is asked who is in the way. */
export function kernelFailure(object: ReconcileObject, cause: unknown, links: LinkTable): TsnetError {
  if (cause instanceof TsnetError) return cause;
  if (object.kind === 'vxlan' && isNetlinkError(cause, 'EEXIST')) {
    const other = [...links.values()].find(({ vni, name }) => vni === object.vni && name !== object.name);
    const device = other === undefined ? 'another VXLAN device' : `VXLAN device ${other.name}`;
    return new TsnetError('ERR_VNI_CONFLICT', `VNI ${object.vni} of ${object.name} is held by ${device}`, {
      details: { vni: object.vni, link: object.name, ...(other === undefined ? {} : { device: other.name }) },
      cause,
    });
  }
  if (object.kind === 'port' && isNetlinkError(cause, 'EXFULL'))
    return portsExhausted(object.master, object.link, cause);
  if (object.kind === 'route' && isNetlinkError(cause, 'EEXIST')) {
    const text = `this host has another route to ${object.dst}, which is not tsnet's (see \`ip route show ${object.dst}\`)`;
    return new TsnetError('ERR_SUBNET_OVERLAP', text, {
      hint: 'Remove that route or its address, or use a network with another subnet.',
      details: { subnet: object.dst, link: object.link, errno: cause.code },
      cause,
    });
  }
  if (!isNetlinkError(cause)) return toTsnetError(cause);
  const link = isLink(object) ? object.name : object.link;
  return new TsnetError('ERR_KERNEL', `${formatReconcileObject(object)}: ${cause.message}`, {
    details: { link, errno: cause.code },
    cause,
  });
}

/** Reports whether a failure may be over since a link has come, or gone. */
export function mayHaveEnded(error: TsnetError, link: string, hasCome: boolean): boolean {
  if (error.code === 'ERR_PARENT_UNKNOWN') return hasCome && error.details['value'] === link;
  return !hasCome && (error.code === 'ERR_LINK_CONFLICT' || error.code === 'ERR_VNI_CONFLICT');
}
