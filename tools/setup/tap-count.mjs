/**
 * Counts the tests of a TAP stream as tap's runner writes it: a point at the outermost level is a file, one
 * level further in (four spaces) is a test. A file that failed without a failing test counts as one failure.
 */
export function countTap(text) {
  const totals = { passed: 0, failed: 0, skipped: 0 };
  let failedInFile = 0;
  for (const line of text.split('\n')) {
    const point = /^( {4})?(not )?ok \d+(.*)$/.exec(line);
    if (point === null) continue;
    const [, inner, not, rest] = point;
    if (inner === undefined) {
      if (not !== undefined && failedInFile === 0) totals.failed += 1;
      failedInFile = 0;
    } else if (/# (skip|todo)/i.test(rest)) {
      totals.skipped += 1;
    } else if (not === undefined) {
      totals.passed += 1;
    } else {
      totals.failed += 1;
      failedInFile += 1;
    }
  }
  return totals;
}
