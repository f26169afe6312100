import type { NetworkView, SubnetRequest } from '../core/api/network.js';
import { containsAddr, containsPrefix, parseAddr, parsePrefix, type Prefix } from '../core/addr.js';
import { TsnetError } from '../core/errors.js';

export interface SubnetOptions {
  readonly subnet?: readonly string[];
  readonly gateway?: readonly string[];
  readonly ipRange?: readonly string[];
}

interface Draft {
  readonly subnet: string;
  readonly prefix: Prefix;
  gateway?: string;
  range?: string;
}

/** Gives each --gateway and --ip-range to the --subnet that contains it, in whatever order they were written. */
export function matchSubnets(options: SubnetOptions): readonly SubnetRequest[] {
  const drafts: Draft[] = (options.subnet ?? []).map((subnet) => ({ subnet, prefix: parsePrefix(subnet, '--subnet') }));
  for (const gateway of options.gateway ?? []) {
    const addr = parseAddr(gateway, '--gateway');
    const draft = drafts.find(({ prefix }) => containsAddr(prefix, addr));
    if (draft === undefined) throw unmatched('--gateway', gateway, drafts);
    if (draft.gateway !== undefined) throw twice('--gateway', draft.subnet, [draft.gateway, gateway]);
    draft.gateway = gateway;
  }
  for (const range of options.ipRange ?? []) {
    const inner = parsePrefix(range, '--ip-range');
    const draft = drafts.find(({ prefix }) => containsPrefix(prefix, inner));
    if (draft === undefined) throw unmatched('--ip-range', range, drafts);
    if (draft.range !== undefined) throw twice('--ip-range', draft.subnet, [draft.range, range]);
    draft.range = range;
  }
  return drafts.map(({ prefix: _, ...request }) => request);
}

/** Gives each --ip to the network that has a subnet for it; the addresses of each network, in its place. */
export function matchAddresses(
  addresses: readonly string[],
  networks: readonly NetworkView[],
): readonly (readonly string[])[] {
  const prefixes = networks.map((network) => network.subnets.map(({ subnet }) => parsePrefix(subnet)));
  const matched = networks.map((): string[] => []);
  for (const address of addresses) {
    const addr = parseAddr(address, '--ip');
    const index = prefixes.findIndex((subnets) => subnets.some((prefix) => containsAddr(prefix, addr)));
    if (index < 0) {
      const names = networks.map((network) => network.name).join(', ');
      throw new TsnetError('ERR_ADDRESS_OUTSIDE_SUBNET', `--ip: ${address} is in no subnet of ${names}`);
    }
    matched[index]?.push(address);
  }
  return matched;
}

function unmatched(option: string, value: string, drafts: readonly Draft[]): TsnetError {
  if (drafts.length === 0) {
    return new TsnetError('ERR_USAGE', `${option}: ${value} needs a --subnet that contains it`, {
      hint: 'Give the subnet with --subnet CIDR.',
    });
  }
  return new TsnetError(
    'ERR_USAGE',
    `${option}: ${value} is in none of the subnets ${drafts.map(({ subnet }) => subnet).join(', ')}`,
    {
      hint: 'Write one inside a --subnet, or leave it out.',
    },
  );
}

function twice(option: string, subnet: string, values: readonly string[]): TsnetError {
  return new TsnetError('ERR_USAGE', `${option}: ${values.join(' and ')} are both for ${subnet}`, {
    hint: 'Give one for each subnet.',
  });
}
