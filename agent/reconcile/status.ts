import type { ErrorCode } from '../../core/errors.js';
import { formatReconcileObject } from './object.js';
import type { Workings } from './workings.js';

/** Something that the kernel does not take. */
export interface FailingObject {
  /** As the command that would make it. */
  readonly object: string;
  readonly code: ErrorCode;
  readonly message: string;
  readonly attempts: number;
}

export interface ReconcilerStatus {
  /** Objects desired, what follows from others included. */
  readonly objects: number;
  /** Changes from outside undone since the start. */
  readonly repairs: number;
  readonly failing: readonly FailingObject[];
}

/** How far the kernel is what its owners want. */
export function reconcilerStatus({ backlog, comparison, desired, drift }: Workings): ReconcilerStatus {
  const failing = [...backlog.failing].flatMap(([key, { error, attempts }]) => {
    const object = comparison.objectOf(key);
    if (object === undefined) return [];
    return [{ object: formatReconcileObject(object), code: error.code, message: error.message, attempts }];
  });
  return { objects: desired.map.size, repairs: drift.repairs, failing };
}
