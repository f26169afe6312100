import { TsnetError } from './errors.js';

/**
 * VXLAN network identifiers from 2^23 up: Swarm counts from 4096 and Calico uses 4096 itself, so the two
 * halves of the 24 bits stay apart even on one UDP port.
 */
export const firstVni = 2 ** 23;
export const lastVni = 2 ** 24 - 1;

const SPAN = lastVni - firstVni + 1;

/**
 * A VNI that is not taken: the one that the seed (any whole number, for example random) names, or the
 * next free behind it.
 *
 * Errors: ERR_VNI_EXHAUSTED.
 */
export function chooseVni(taken: ReadonlySet<number>, seed: number): number {
  const start = Math.abs(Math.trunc(seed)) % SPAN;
  for (let step = 0; step <= Math.min(taken.size, SPAN - 1); step++) {
    const vni = firstVni + ((start + step) % SPAN);
    if (!taken.has(vni)) return vni;
  }
  throw new TsnetError('ERR_VNI_EXHAUSTED', `all ${SPAN} VNIs from ${firstVni} to ${lastVni} are taken`);
}

/** Reports whether a number is a VNI that tsnet hands out. */
export function isVni(vni: number): boolean {
  return Number.isInteger(vni) && vni >= firstVni && vni <= lastVni;
}
