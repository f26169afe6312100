import { containsAddr, parseAddr, parsePrefix } from '../addr.js';
import { bridgeName } from '../ids.js';
import type { Endpoint, Network, Service } from '../model.js';
import { slotsOf } from './backend.js';
import { spreadChain } from './table.js';

/** An element of a set or map of the table of services; equal in shape to lib/nft's. */
export interface ServiceElement {
  readonly set: string;
  readonly key: string;
  readonly value?: string;
}

type Backend = Pick<Endpoint, 'id' | 'addresses' | 'host'>;

const join = (...parts: readonly (string | number)[]): string => parts.join(' . ');
const familyOf = (address: string): '4' | '6' => (address.includes(':') ? '6' : '4');

/** The host's own addresses in a network that it carries: what leaves for it on the host's behalf comes from these. */
export function hostElements(network: Pick<Network, 'subnets'>, own: readonly string[]): ServiceElement[] {
  return network.subnets.flatMap(({ subnet }) => {
    const prefix = parsePrefix(subnet);
    const address = own.find((text) => containsAddr(prefix, parseAddr(text)));
    return address === undefined ? [] : [{ set: `own${prefix.family}`, key: subnet, value: address }];
  });
}

/** The elements of one service on one host. Without backends only its address is known, and connections are refused. */
export function serviceElements(service: Service, ready: readonly Backend[], host: string): ServiceElement[] {
  if (service.mode !== 'vip') return [];
  const elements: ServiceElement[] = [];
  const kind = service.affinity === 'client-ip' ? 'stick' : 'spread';
  for (const vip of service.addresses) {
    const family = familyOf(vip);
    elements.push({ set: `vips${family}`, key: vip });
    elements.push({ set: `home${family}`, key: join(`"${bridgeName(service.network)}"`, vip) });
    const able = ready.filter(({ addresses }) => addresses.some((address) => familyOf(address) === family));
    const slots = slotsOf(service, able).map(
      ({ addresses }) => addresses.find((one) => familyOf(one) === family) ?? '',
    );
    if (slots.length === 0) continue;
    for (const { port, target, protocol } of service.ports) {
      elements.push({
        set: `vip${family}`,
        key: join(vip, protocol, port),
        value: `jump ${spreadChain(kind, slots.length)}`,
      });
      for (const [slot, address] of slots.entries())
        elements.push({ set: `to${family}`, key: join(vip, protocol, port, slot), value: join(address, target) });
      const published = (service.publish ?? []).filter((each) => each.port === port && each.protocol === protocol);
      for (const { hostPort } of published) {
        elements.push({
          set: `pub${family}`,
          key: join(protocol, hostPort),
          value: `jump ${spreadChain(`pub-${kind}`, slots.length)}`,
        });
        for (const [slot, address] of slots.entries())
          elements.push({ set: `pub-to${family}`, key: join(protocol, hostPort, slot), value: join(address, target) });
      }
    }
    for (const backend of able) {
      for (const address of backend.addresses.filter((one) => familyOf(one) === family)) {
        if (backend.host === host) elements.push({ set: `self${family}`, key: join(address, address) });
        else if (service.publish !== undefined) elements.push({ set: `remote${family}`, key: address });
      }
    }
  }
  return elements;
}
