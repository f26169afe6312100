/** As much of dns-packet as the tests use. */
declare module 'dns-packet' {
  export interface PacketRecord {
    readonly name: string;
    readonly type: string;
    readonly data?: unknown;
  }
  export interface Packet {
    readonly type: 'query' | 'response';
    readonly id?: number;
    readonly flags?: number;
    readonly flag_tc?: boolean;
    readonly questions?: readonly { readonly type: string; readonly name: string }[];
    readonly answers?: readonly PacketRecord[];
    readonly additionals?: readonly unknown[];
  }
  const packet: {
    readonly RECURSION_DESIRED: number;
    readonly DNSSEC_OK: number;
    encode(packet: Packet): Buffer;
    decode(bytes: Buffer): Packet;
    encodingLength(packet: Packet): number;
  };
  export default packet;
}
