import { formatAddr, parseAddr } from '../../core/addr.js';
import { masqueradeSources } from '../../core/desired/option.js';
import type { Network } from '../../core/model.js';
import { guardedPortElements, sourceElements, type TableElement } from '../../core/nft/element.js';
import type { Place } from '../../lib/places.js';
import type { Warning } from './neighbourhood.js';

/** What depends on which addresses the host has. */
export interface AddressDependents {
  readonly elements: readonly TableElement[];
  readonly warnings: readonly Warning[];
}

/**
 * A network's chosen source is used where the host has that address, and else masquerade, with a warning. A guarded place
 * of this host is guarded by its port: what listens there may listen on every address, gateways included.
 */
export function planByAddresses(
  own: ReadonlySet<string>,
  networks: readonly Network[],
  guarded: readonly Place[],
): AddressDependents {
  const elements: TableElement[] = [];
  const warnings: Warning[] = [];
  for (const network of networks) {
    for (const source of masqueradeSources(network.options).map((text) => parseAddr(text))) {
      const text = formatAddr(source);
      if (own.has(text)) elements.push(...sourceElements(network, source));
      else {
        const message = `network ${network.name}: this host does not have its masquerade source ${text}; its packets leave from another address of the host`;
        warnings.push({ code: 'ERR_MASQUERADE_SOURCE', message });
      }
    }
  }
  elements.push(...guardedPortElements(guarded.filter(({ address }) => own.has(address))));
  return { elements, warnings };
}
