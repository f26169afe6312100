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

/** What ends a statement's line, when all stand on one. */
const separator = (line: string): string => (line.endsWith('{') ? ' ' : '; ');

/**
 * Writes statements, one a line, on one line: of several lines libnftables shows the first whichever failed, of one it
 * points at the place.
 */
export function formatOneLine(script: string): string {
  return script
    .split('\n')
    .filter((line) => line.trim() !== '')
    .map((line) => line + separator(line))
    .join('');
}

/**
 * Makes an error of what libnftables printed about a script on one line: the reason, the line, and carets below the
 * place in it.
 *
 * @param script the statements, one a line.
 */
export function parseNftError(script: string, printed: string): NftError {
  const lines = printed.split('\n');
  const at = lines.findIndex((line) => line.includes('Error: '));
  const reason = (lines[at] ?? '').replace(/^.*?Error: /, '') || 'failed without a message';
  let offset = (lines[at + 2] ?? '').indexOf('^');
  for (const line of script.split('\n')) {
    if (offset < 0 || line.trim() === '') continue;
    offset -= line.length + separator(line).length;
    if (offset < 0) return new NftError(line.trim().slice(0, shownLength), reason);
  }
  return new NftError('', reason);
}
