import { TsnetError } from '../core/errors.js';
import type { DriverName, Host, Subnet } from '../core/model.js';

/** What VXLAN puts around a frame: inner Ethernet 14, VXLAN 8, UDP 8, and outer IPv4 20 or IPv6 40. */
const overhead4 = 50;
const overhead6 = 70;
const defaultUnderlayMtu = 1500;
/** RFC 8200 §5, and RFC 791's smallest datagram that every host takes. */
const leastMtu6 = 1280;
const leastMtu4 = 576;
const largestMtu = 65_535;

export interface MtuQuestion {
  readonly driver: DriverName;
  readonly asked: number | undefined;
  readonly subnets: readonly Subnet[];
  readonly hosts: Iterable<Pick<Host, 'vtep' | 'underlayMtu'>>;
}

/** A new network's MTU: as asked, else what the smallest underlay of all hosts carries. Errors: ERR_INVALID_MTU. */
export function chooseMtu(question: MtuQuestion): number {
  const has6 = question.subnets.some(({ subnet }) => subnet.includes(':'));
  const mtu = question.asked ?? (question.driver === 'overlay' ? overlayMtu(question.hosts) : defaultUnderlayMtu);
  const least = has6 ? leastMtu6 : leastMtu4;
  if (mtu >= least && mtu <= largestMtu) return mtu;
  const why = has6 ? 'with an IPv6 subnet' : 'without IPv6';
  throw new TsnetError('ERR_INVALID_MTU', `mtu: ${mtu} is not between ${least} and ${largestMtu} (${why})`, {
    details: { field: 'mtu', value: mtu },
  });
}

function overlayMtu(hosts: Iterable<Pick<Host, 'vtep' | 'underlayMtu'>>): number {
  let smallest = Infinity;
  let overhead = overhead4;
  for (const host of hosts) {
    smallest = Math.min(smallest, host.underlayMtu);
    if (host.vtep.includes(':')) overhead = overhead6;
  }
  return (smallest === Infinity ? defaultUnderlayMtu : smallest) - overhead;
}
