/**
 * Steps to take back when a later one fails: push one after each success, `rollback` runs them in
 * reverse and goes on past errors.
 */
export class Undo {
  readonly #steps: { readonly what: string; readonly run: () => Promise<void> | void }[] = [];

  push(what: string, run: () => Promise<void> | void): void {
    this.#steps.push({ what, run });
  }

  /** Runs all steps, last first; returns what failed. */
  async rollback(): Promise<{ readonly what: string; readonly error: unknown }[]> {
    const failed: { what: string; error: unknown }[] = [];
    for (let step = this.#steps.pop(); step !== undefined; step = this.#steps.pop()) {
      try {
        await step.run();
      } catch (error) {
        failed.push({ what: step.what, error });
      }
    }
    return failed;
  }
}
