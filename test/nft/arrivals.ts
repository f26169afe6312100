import { mustExecIn, type Sandbox } from '../lab/sandbox.js';

/** The MAC address of a link. */
export async function macOf(at: Sandbox, ifname: string): Promise<string> {
  const [link] = JSON.parse(await mustExecIn(at, 'ip', '-j', 'link', 'show', 'dev', ifname)) as { address: string }[];
  return link?.address ?? '';
}

/** Counts the packets that come in at a place by a link and match; what was counted there before is forgotten. */
export async function countArrivals(at: Sandbox, ifname: string, match: string): Promise<() => Promise<number>> {
  const nft = (...argv: string[]): Promise<string> => mustExecIn(at, 'nft', ...argv);
  await nft('add table netdev seen');
  await nft('flush table netdev seen');
  await nft(`add chain netdev seen in { type filter hook ingress device ${ifname} priority 0; }`);
  await nft(`add rule netdev seen in ${match} counter`);
  return async () => Number(/counter packets (\d+)/.exec(await nft('list table netdev seen'))?.[1] ?? 0);
}
