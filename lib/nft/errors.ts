/** libnftables, or the kernel behind it, refused a transaction: nothing of it was applied. */
export class NftError extends Error {
  /** The statement that failed; empty where libnftables names none. */
  readonly statement: string;
  /** What was said, without the position. */
  readonly reason: string;

  constructor(statement: string, reason: string) {
    super(statement === '' ? `nft: ${reason}` : `nft: ${statement}: ${reason}`);
    this.name = 'NftError';
    this.statement = statement;
    this.reason = reason;
  }
}

const shownLength = 200;

/**
 * Makes an error of what libnftables printed, with the statement that the first message points at.
 *
 * @param script the statements, one a line, in the order they were sent.
 */
export function parseNftError(script: string, printed: string): NftError {
  const match = /^[^\n]*?:(\d+):\d+-\d+: Error: ([^\n]*)/m.exec(printed);
  if (match === null) return new NftError('', printed.split('\n', 1)[0] ?? 'failed without a message');
  const statement = script.split('\n')[Number(match[1]) - 1]?.trim() ?? '';
  return new NftError(statement.slice(0, shownLength), match[2] ?? '');
}
