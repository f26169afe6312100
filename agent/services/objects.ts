import { bridgeName } from '../../core/ids.js';
import type { KernelObject } from '../../core/kernel.js';
import type { Service } from '../../core/model.js';

/** A virtual address is the host's own on each host, as the gateway's is: what is sent to it never leaves the host as it is. */
export function addressObjects(service: Service): KernelObject[] {
  return service.addresses.map((address) => ({
    kind: 'addr',
    link: bridgeName(service.network),
    address: `${address}/${address.includes(':') ? 128 : 32}`,
    deprecated: address.includes(':'),
  }));
}
