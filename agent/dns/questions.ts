import { TsnetError } from '../../core/errors.js';
import type { DnsExplained, DnsQuestion } from './protocol.js';

/** Questions to the name server that are not answered yet. */
export class Questions {
  readonly #asked = new Map<number, (answer: DnsExplained) => void>();
  #lastId = 0;

  /** Errors: ERR_DNS_UNAVAILABLE when there is no answer in time. */
  ask(tell: (id: number) => void, withinMs: number): Promise<DnsExplained> {
    const id = (this.#lastId += 1);
    return new Promise((resolve, reject) => {
      const end = (settle: () => void): void => {
        clearTimeout(timer);
        this.#asked.delete(id);
        settle();
      };
      const timer = setTimeout(
        () => end(() => reject(new TsnetError('ERR_DNS_UNAVAILABLE', 'the name server of this host does not answer'))),
        withinMs,
      );
      this.#asked.set(id, (answer) => end(() => resolve(answer)));
      tell(id);
    });
  }

  answer(id: DnsQuestion['id'], answer: DnsExplained): void {
    this.#asked.get(id)?.(answer);
  }
}
