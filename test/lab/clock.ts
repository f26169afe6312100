import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

const preloaded = `
import { readFileSync } from 'node:fs';
const Real = Date;
let jumpMs = 0;
const look = () => {
  try {
    jumpMs = Number(readFileSync(process.env.TSNET_TEST_CLOCK, 'utf8'));
  } catch {}
};
look();
setInterval(look, 20).unref();
globalThis.Date = class Date extends Real {
  constructor(...args) {
    if (args.length === 0) super(Real.now() + jumpMs);
    else super(...args);
  }
  static now() {
    return Real.now() + jumpMs;
  }
};`;

/** A wall clock for daemons that a test sets while they run; the machine's own stays as it is. */
export class TestClock {
  readonly #path: string;

  constructor(folder: string) {
    this.#path = join(folder, 'clock');
    this.set(0);
  }

  /** What a daemon has to be started with. */
  get env(): Readonly<Record<string, string>> {
    return {
      NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(preloaded)}`,
      TSNET_TEST_CLOCK: this.#path,
    };
  }

  /** Sets it so far from the machine's: daemons see it within some 20 ms. */
  set(jumpMs: number): void {
    writeFileSync(this.#path, String(jumpMs));
  }
}
