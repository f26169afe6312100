import type { Test } from 'tap';
import { TsnetError } from '../../../core/errors.js';
import type { ErrorCode } from '../../../core/errors.js';

/** Runs a call that must fail with a code, and whose message must hold every one of some texts. */
export function fails(t: Test, code: ErrorCode, call: () => unknown, ...texts: readonly string[]): void {
  let thrown: unknown;
  let result: unknown;
  try {
    result = call();
  } catch (error) {
    thrown = error;
  }
  if (!(thrown instanceof TsnetError)) {
    t.fail(`expected ${code}`, { thrown: String(thrown), result: String(JSON.stringify(result)) });
    return;
  }
  t.equal(thrown.code, code, thrown.message);
  for (const text of texts) t.ok(thrown.message.includes(text), `"${thrown.message}" names ${text}`);
}
