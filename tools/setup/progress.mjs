/** Lines for whoever watches the set-up; the first column says which step speaks. */
export function say(step, text) {
  process.stderr.write(`${step.padEnd(9)} ${text}\n`);
}

/** A condition that the person at the terminal can mend: printed as one sentence, without a stack. */
export class SetupError extends Error {}

/** Seconds since `startedMs`, as text. */
export function elapsed(startedMs) {
  return `${((performance.now() - startedMs) / 1000).toFixed(1)} s`;
}
