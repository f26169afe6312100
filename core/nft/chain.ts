/** A chain of a host's table, hooked or jumped to. */
export interface TableChain {
  readonly name: string;
  readonly hook?: {
    readonly type: 'filter' | 'nat';
    readonly hook: 'prerouting' | 'input' | 'forward' | 'output' | 'postrouting';
    readonly priority: number;
  };
  readonly rules: readonly string[];
}

/** Our VNIs are 2^23 and up, which keeps the rules off other users of the same UDP port (RFC 7348 §5: bits 32–55 after the UDP header). */
const ourVni = '@th,96,8 & 0x80 == 0x80';

/** Matches a packet of VXLAN of this cluster's port. */
export const vxlanMatch = (vxlanPort: number): string => `udp dport ${vxlanPort}`;

/** The same where it is of a network of ours. */
export const ownVxlanMatch = (vxlanPort: number): string => `${vxlanMatch(vxlanPort)} ${ourVni}`;
