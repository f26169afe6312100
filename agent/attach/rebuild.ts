import type { HostRecords } from '../../core/api/host.js';
import { containsAddr, parseAddr, parsePrefix } from '../../core/addr.js';
import { TsnetError, toTsnetError } from '../../core/errors.js';
import type { LinkMark } from '../../core/ids.js';
import type { Block, Carrier, Endpoint, Network } from '../../core/model.js';
import type { Logger } from '../../lib/log.js';
import { Backoff } from '../../lib/sync/backoff.js';
import type { HostAddress, OwnEndpoint, RestoredEntries } from '../journal/entries.js';
import type { Journal } from '../journal/journal.js';
import { isRecordOf } from '../state/record-check.js';
import type { ControllerClient } from '../sync/controller-client.js';
import type { LivingLinks, SandboxEnd } from './living-links.js';

export interface RebuildOptions {
  readonly host: string;
  readonly journal: Journal;
  readonly client: Pick<ControllerClient, 'call'>;
  /** Reads what the kernel has; asked only where something may be lost. */
  readonly readLinks: () => Promise<LivingLinks>;
  readonly knownNetwork: (id: string) => Network | undefined;
  readonly bootId: string;
  readonly log: Logger;
  /** Ends the wait for a controller. */
  readonly signal: AbortSignal;
}

const askTimeoutMs = 5000;
/** Without anything in the kernel that speaks of a loss, a controller that does not answer is not waited for. */
const askOnceTimeoutMs = 2000;
/** Generations that nobody has seen are not to be given twice. */
const generationGap = 1024;

/**
 * Rebuilds what a missing or damaged journal has lost, before anything else looks at it: what the store has of this
 * host, as far as the kernel shows that it is still so. With the journal whole again the start goes on as after any
 * restart, and nothing of it is deleted, withdrawn or made anew. Links that no record speaks of stay until a
 * controller has answered, however long that takes: traffic goes on meanwhile.
 *
 * Errors: ERR_STOPPING when the signal comes first.
 */
export async function rebuildJournal(options: RebuildOptions): Promise<void> {
  const { journal, log } = options;
  if (!journal.isIncomplete) return;
  const links = await options.readLinks();
  const orphans = links.marks.filter((mark) => !isKnown(journal, mark));
  const records = await ask(options, orphans.length);
  const rebuilt = await collect({ ...options, links }, records);
  journal.restore(rebuilt);
  const { endpoints, carriers } = rebuilt;
  if (endpoints.length + carriers.length === 0) return;
  const said = { endpoints: endpoints.length, networks: carriers.length };
  log.warn({ code: 'ERR_JOURNAL_CORRUPT', ...said }, "rebuilt the journal from the store's records and the kernel");
}

function isKnown(journal: Journal, { kind, id }: LinkMark): boolean {
  const isOfNetwork = kind === 'bridge' || kind === 'vxlan' || kind === 'shim';
  return isOfNetwork ? journal.carrier(id) !== undefined : journal.endpoint(id) !== undefined;
}

async function ask(options: RebuildOptions, orphans: number): Promise<HostRecords | null> {
  const { client, host, log, signal } = options;
  const path = `/v1/hosts/${encodeURIComponent(host)}/records`;
  const backoff = new Backoff();
  for (let said = ''; ; await backoff.wait(signal)) {
    if (signal.aborted) throw new TsnetError('ERR_STOPPING', 'stopped while the journal was being rebuilt');
    try {
      const timeoutMs = orphans === 0 ? askOnceTimeoutMs : askTimeoutMs;
      return checkRecords(await client.call<HostRecords>('GET', path, { timeoutMs, signal }));
    } catch (error) {
      const { code, message } = toTsnetError(error);
      if (code === 'ERR_HOST_UNKNOWN' || orphans === 0) return null;
      if (code !== said)
        log.error(
          { code, links: orphans },
          `the journal does not know links of ours: no attach before a controller has said what they are: ${message}`,
        );
      said = code;
    }
  }
}

function checkRecords(records: HostRecords): HostRecords {
  const { host, endpoints, carriers, blocks, networks } = records;
  return {
    host,
    endpoints: endpoints.filter((each) => isRecordOf('endpoint', each)),
    carriers: carriers.filter((each) => isRecordOf('carrier', each)),
    blocks: blocks.filter((each) => isRecordOf('block', each)),
    networks: networks.filter((each) => isRecordOf('network', each)),
  };
}

async function collect(
  options: RebuildOptions & { readonly links: LivingLinks },
  records: HostRecords | null,
): Promise<RestoredEntries> {
  const { journal, links } = options;
  const lost = (records?.endpoints ?? []).filter((record) => isLost(journal, record));
  const ends = await links.find(lost);
  const living = lost.flatMap((record) => {
    const end = ends.get(record.id);
    return end === undefined ? [] : [ownEndpoint(record, end, options.bootId)];
  });
  const marked = new Set(links.marks.map(({ id }) => id));
  const used = new Set([...journal.endpoints(), ...living].map(({ record }) => record.network));
  const carriers = (records?.carriers ?? []).filter(
    ({ network }) => journal.carrier(network) === undefined && (marked.has(network) || used.has(network)),
  );
  const isThisHost = living.length > 0 || carriers.some(({ network }) => marked.has(network));
  const reserved = isThisHost ? lost.filter(({ state, sandbox }) => state === 'reserved' && sandbox === null) : [];
  const endpoints = [...living, ...reserved.map((record) => ownEndpoint(record, null, options.bootId))];
  const hostAddresses = hostAddressesOf(options, records, carriers);
  return {
    instance: isThisHost ? (records?.host.instance ?? null) : null,
    generation: generationGap + highestGeneration(records),
    endpoints,
    carriers,
    hostAddresses,
    blocks: (records?.blocks ?? []).filter((block) =>
      isUsed(block, [...endpoints, ...journal.endpoints()], hostAddresses),
    ),
  };
}

/** Unknown to the journal and not removed by it, or known in an older state: the newer one was lost with its line. */
function isLost(journal: Journal, record: Endpoint): boolean {
  const known = journal.endpoint(record.id)?.record;
  if (known !== undefined) return known.generation < record.generation;
  return journal.tombstone(record.network, record.id) === undefined && record.state !== 'detaching';
}

function ownEndpoint(record: Endpoint, end: SandboxEnd | null, bootId: string): OwnEndpoint {
  return {
    record,
    cookie: end?.cookie ?? null,
    bootId,
    ifindexHint: end?.ifindex ?? null,
    publishedGeneration: record.generation,
    defaultRoutes: end?.defaultRoutes ?? [],
    step: null,
  };
}

/** The host's own addresses, which a carrier's record has as well; those that the journal knows are left out. */
function hostAddressesOf(
  { journal, knownNetwork }: RebuildOptions,
  records: HostRecords | null,
  found: readonly Carrier[],
): HostAddress[] {
  const carriers = [...[...journal.carriers()].map(({ record }) => record), ...found];
  return carriers.flatMap(({ network: id, addresses }) => {
    const network = knownNetwork(id) ?? records?.networks.find((each) => each.id === id);
    return addresses.flatMap((address) => {
      const addr = parseAddr(address);
      const subnet = network?.subnets.find((each) => containsAddr(parsePrefix(each.subnet), addr))?.subnet;
      if (subnet === undefined || journal.addresses.hostAddress(id, subnet) !== undefined) return [];
      return [{ network: id, subnet, address }];
    });
  });
}

/** Blocks without a used address are left to the stream: they go back after a while. */
function isUsed(block: Block, endpoints: readonly OwnEndpoint[], hostAddresses: readonly HostAddress[]): boolean {
  const prefix = parsePrefix(block.cidr);
  const used = [
    ...endpoints.flatMap(({ record }) => (record.network === block.network ? record.addresses : [])),
    ...hostAddresses.flatMap(({ network, address }) => (network === block.network ? [address] : [])),
  ];
  return used.some((address) => !block.carved.includes(address) && containsAddr(prefix, parseAddr(address)));
}

function highestGeneration(records: HostRecords | null): number {
  const all = [...(records?.endpoints ?? []), ...(records?.carriers ?? [])];
  return all.reduce((highest, { generation }) => Math.max(highest, generation), 0);
}
