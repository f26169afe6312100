const mostAnswers = 10_000;
/** Longer names are asked for seldom. */
const longestQueryBytes = 128;

/**
 * Whole answers to whole queries, for as long as nothing has changed: the same question from sandboxes that see the same
 * networks has the same answer, but for its id.
 */
export class AnswerMemory {
  readonly #views = new Map<string, Map<string, Buffer>>();
  #revision = -1;
  #count = 0;

  /** The answer with the query's id, good until the next call; null: none is known. */
  get(query: Buffer, view: string, revision: number): Buffer | null {
    if (revision !== this.#revision) {
      this.#clear();
      this.#revision = revision;
      return null;
    }
    if (query.length > longestQueryBytes) return null;
    const answer = this.#views.get(view)?.get(query.toString('latin1', 2));
    if (answer === undefined) return null;
    answer[0] = query[0] ?? 0;
    answer[1] = query[1] ?? 0;
    return answer;
  }

  /** @param query as it came. */
  put(query: Buffer, view: string, answer: Buffer): void {
    if (query.length > longestQueryBytes) return;
    if (this.#count >= mostAnswers) this.#clear();
    let answers = this.#views.get(view);
    if (answers === undefined) this.#views.set(view, (answers = new Map<string, Buffer>()));
    answers.set(query.toString('latin1', 2), answer);
    this.#count += 1;
  }

  #clear(): void {
    this.#views.clear();
    this.#count = 0;
  }
}
