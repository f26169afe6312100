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

/**
 * A new network's MTU: as asked, else what the smallest underlay of all hosts carries. One that no host at all carries
 * is refused; a single host that does not carry it refuses to join.
 * Errors: ERR_INVALID_MTU, ERR_MTU_UNDERLAY.
 */
export function chooseMtu(question: MtuQuestion): number {
  const has6 = question.subnets.some(({ subnet }) => subnet.includes(':'));
  if (question.asked !== undefined && question.driver === 'overlay') checkUnderlays(question.asked, question.hosts);
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

function checkUnderlays(asked: number, hosts: MtuQuestion['hosts']): void {
  const rooms = [...hosts].map(({ vtep, underlayMtu }) => underlayMtu - (vtep.includes(':') ? overhead6 : overhead4));
  const largest = Math.max(...rooms);
  if (rooms.length === 0 || asked <= largest) return;
  throw new TsnetError('ERR_MTU_UNDERLAY', `mtu: ${asked} is more than the underlay of any host carries: ${largest}`, {
    details: { field: 'mtu', value: asked, largest },
  });
}
