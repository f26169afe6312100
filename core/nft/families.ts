/** What differs between rules and sets of the two families. */
export const families = [
  { suffix: '4', ip: 'ip', type: 'ipv4_addr' },
  { suffix: '6', ip: 'ip6', type: 'ipv6_addr' },
] as const;

/** Both families' version of some rules: `IP` and `#` (4 or 6) stand for what differs. */
export const both = (...rules: readonly string[]): string[] =>
  rules.flatMap((rule) => families.map(({ suffix, ip }) => rule.replaceAll('IP', ip).replaceAll('#', suffix)));
