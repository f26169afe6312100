const mostAnswers = 10_000;
/** Longer names are asked for seldom. */
const longestQueryBytes = 128;

/**
 * Whole answers to whole queries, for as long as nothing of a view has changed: the same question from sandboxes that see
 * the same networks has the same answer, but for its id.
 */
export class AnswerMemory {
  readonly #views = new Map<string, View>();
  #count = 0;

  /** The answer with the query's id, good until the next call; null: none is known. */
  get(query: Buffer, view: string, revision: number): Buffer | null {
    if (query.length > longestQueryBytes) return null;
    const known = this.#views.get(view);
    if (known === undefined) return null;
    if (known.revision !== revision) {
      this.#forget(view, known);
      return null;
    }
    const answer = known.answers.get(query.toString('latin1', 2));
    if (answer === undefined) return null;
    answer[0] = query[0] ?? 0;
    answer[1] = query[1] ?? 0;
    return answer;
  }

  /** @param query as it came. */
  put(query: Buffer, at: { readonly view: string; readonly revision: number }, answer: Buffer): void {
    if (query.length > longestQueryBytes) return;
    if (this.#count >= mostAnswers) {
      this.#views.clear();
      this.#count = 0;
    }
    let known = this.#views.get(at.view);
    if (known !== undefined && known.revision !== at.revision) {
      this.#forget(at.view, known);
      known = undefined;
    }
    if (known === undefined) this.#views.set(at.view, (known = { revision: at.revision, answers: new Map() }));
    known.answers.set(query.toString('latin1', 2), answer);
    this.#count += 1;
  }

  #forget(view: string, { answers }: View): void {
    this.#views.delete(view);
    this.#count -= answers.size;
  }
}

interface View {
  /** Of the tables, when its answers were made. */
  readonly revision: number;
  readonly answers: Map<string, Buffer>;
}
