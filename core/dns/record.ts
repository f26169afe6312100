/** Records of answers, before they are bytes. Names are lower case, without a final dot. */

interface RecordHead {
  readonly name: string;
  /** Seconds. */
  readonly ttl: number;
}

export type DnsRecord =
  | (RecordHead & { readonly type: 'A' | 'AAAA'; readonly address: string })
  | (RecordHead & { readonly type: 'PTR' | 'NS'; readonly target: string })
  | (RecordHead & {
      readonly type: 'SRV';
      readonly priority: number;
      readonly weight: number;
      readonly port: number;
      readonly target: string;
    })
  | (RecordHead & { readonly type: 'TXT'; readonly text: string })
  | (RecordHead & {
      readonly type: 'SOA';
      readonly primary: string;
      readonly mailbox: string;
      readonly serial: number;
      readonly refresh: number;
      readonly retry: number;
      readonly expire: number;
      readonly minimum: number;
    });
