import type { NftContext } from '../../native/api.js';
import { formatOneLine, NftError, parseNftError } from './errors.js';

/**
 * Runs statements, one a line, as one transaction.
 *
 * Equivalent to: `nft -f -`
 * Errors: NftError with the statement that failed; nothing is applied then.
 */
export async function runNft(context: NftContext, script: string): Promise<void> {
  const { rc, error } = await context.run(formatOneLine(script));
  if (rc !== 0) throw parseNftError(script, error);
}

/** A base chain, as a listing has it. */
export interface ListedChain {
  readonly family: string;
  readonly table: string;
  readonly name: string;
  /** Null for a chain that is jumped to. */
  readonly hook: string | null;
  readonly policy: string | null;
}

interface Listing {
  readonly nftables?: readonly {
    readonly chain?: Partial<Record<'family' | 'table' | 'name' | 'hook' | 'policy', string>>;
  }[];
}

/**
 * Lists the chains of all tables, without their rules.
 *
 * Equivalent to: `nft -j -t list chains`
 * Errors: NftError.
 */
export async function listChains(context: NftContext): Promise<ListedChain[]> {
  const script = 'list chains';
  const { rc, output, error } = await context.run(script, { json: true, terse: true });
  if (rc !== 0) throw parseNftError(script, error);
  if (output === '') return [];
  let listing: Listing;
  try {
    listing = JSON.parse(output) as Listing;
  } catch (cause) {
    throw new NftError(script, `unreadable answer: ${String(cause)}`);
  }
  return (listing.nftables ?? []).flatMap(({ chain }) => {
    if (chain?.family === undefined || chain.table === undefined || chain.name === undefined) return [];
    return [
      {
        family: chain.family,
        table: chain.table,
        name: chain.name,
        hook: chain.hook ?? null,
        policy: chain.policy ?? null,
      },
    ];
  });
}

/**
 * Lists the rules of one chain as text, without the elements of sets.
 *
 * Equivalent to: `nft -t list chain $family $table $name`
 * Errors: NftError when there is no such chain; RangeError for a name that is none.
 */
export async function listRules(
  context: NftContext,
  chain: Pick<ListedChain, 'family' | 'table' | 'name'>,
): Promise<string> {
  const names = [chain.family, chain.table, chain.name];
  if (!names.every((name) => /^[A-Za-z0-9_-]{1,127}$/.test(name))) throw new RangeError(`no chain: ${names.join(' ')}`);
  const script = `list chain ${names.join(' ')}`;
  const { rc, output, error } = await context.run(script, { terse: true });
  if (rc !== 0) throw parseNftError(script, error);
  return output;
}
