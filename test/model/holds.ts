import fc from 'fast-check';
import type { Test } from 'tap';

/** Checks a property with many inputs; a failure prints the smallest input found that breaks it. */
export function holds<T>(t: Test, property: fc.IRawProperty<T>, numRuns = 300): void {
  const details = fc.check(property, { numRuns });
  if (details instanceof Promise) throw new TypeError('the property is asynchronous');
  if (details.failed) {
    const cause = details.errorInstance instanceof Error ? (details.errorInstance.stack ?? '') : '';
    t.fail(fc.defaultReportMessage(details) ?? 'the property does not hold', { cause });
  } else t.pass(`held for ${details.numRuns} inputs`);
}
