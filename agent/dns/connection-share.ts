const mostOfClient = 20;

/** How many connections each client has open, at all sockets together and from whichever of its addresses. */
export class ConnectionShare {
  readonly #open = new Map<string, number>();

  /** Counts one more; false: the client has its share already. */
  take(client: string): boolean {
    const open = this.#open.get(client) ?? 0;
    if (open >= mostOfClient) return false;
    this.#open.set(client, open + 1);
    return true;
  }

  /** One that was taken is closed. */
  give(client: string): void {
    const left = (this.#open.get(client) ?? 1) - 1;
    if (left === 0) this.#open.delete(client);
    else this.#open.set(client, left);
  }
}
