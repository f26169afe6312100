const mostAnswers = 10_000;
/** Longer names are asked for seldom. */
const longestQueryBytes = 128;

/** Numbers that rise with each change of what questions with a label are answered with. */
export interface Revisions {
  revisionOf(label: string): number;
}

export interface RememberOptions {
  readonly view: string;
  /** Of the question: as long as its revision stays, so does the answer. */
  readonly label: string;
  readonly revisions: Revisions;
}

interface Remembered {
  readonly answer: Buffer;
  readonly label: string;
  readonly revision: number;
}

/**
 * Whole answers to whole queries, for as long as nothing has changed that they depend on: the same question from sandboxes
 * that see the same networks has the same answer, but for its id.
 */
export class AnswerMemory {
  readonly #views = new Map<string, Map<string, Remembered>>();
  #count = 0;

  /** The answer with the query's id, good until the next call; null: none is known. */
  get(query: Buffer, view: string, revisions: Revisions): Buffer | null {
    if (query.length > longestQueryBytes) return null;
    const known = this.#views.get(view)?.get(query.toString('latin1', 2));
    if (known === undefined || known.revision !== revisions.revisionOf(known.label)) return null;
    const { answer } = known;
    answer[0] = query[0] ?? 0;
    answer[1] = query[1] ?? 0;
    return answer;
  }

  /** @param query as it came. */
  put(query: Buffer, { view, label, revisions }: RememberOptions, answer: Buffer): void {
    if (query.length > longestQueryBytes) return;
    if (this.#count >= mostAnswers) {
      this.#views.clear();
      this.#count = 0;
    }
    let known = this.#views.get(view);
    if (known === undefined) this.#views.set(view, (known = new Map()));
    const before = known.size;
    known.set(query.toString('latin1', 2), { answer, label, revision: revisions.revisionOf(label) });
    this.#count += known.size - before;
  }
}
