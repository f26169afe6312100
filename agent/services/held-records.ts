import type { Journal } from '../journal/journal.js';
import type { HeldRecords } from './held-ports.js';

/** As many as a record takes. */
const mostHeld = 256;

/** Keeps which published ports are held in the records that say which networks this host carries. */
export function heldRecords(journal: Pick<Journal, 'carrier' | 'putCarrier'>): HeldRecords {
  return {
    read: (network) => journal.carrier(network)?.record.held ?? [],
    write: (network, held) => {
      const own = journal.carrier(network)?.record;
      if (own === undefined) return;
      const { host, vtep, addresses, mac } = own;
      const carrier = { network, host, vtep, addresses, mac };
      journal.putCarrier(held.length === 0 ? carrier : { ...carrier, held: held.slice(0, mostHeld) });
    },
  };
}
