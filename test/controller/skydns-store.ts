import type { Test } from 'tap';
import { EtcdClient } from '../../lib/etcd/client.js';
import { until } from '../store/real-etcd.js';

/** Records of somebody else in the same folders. */
export const theirs: Readonly<Record<string, string>> = {
  '/skydns/internal/tsnet/front/theirs/x': '{"host":"198.18.0.99"}',
  '/skydns/arpa/in-addr/198/18/0/99': '{"host":"theirs.example."}',
};

export interface SkyDnsStore {
  readonly client: EtcdClient;
  /** Ours, values without what is always the same. */
  readonly records: () => Promise<Record<string, unknown>>;
}

/** What a controller writes for CoreDNS into an etcd. */
export function openStore(t: Test, endpoint: string): SkyDnsStore {
  const client = new EtcdClient({ endpoints: [endpoint] });
  t.teardown(() => client.close());
  const records = async (): Promise<Record<string, unknown>> => {
    const { kvs } = await client.list('/skydns/');
    return Object.fromEntries(
      kvs.flatMap(({ key, value }) => {
        if (key in theirs) return [];
        const { host, port, ttl } = JSON.parse(value.toString()) as { host: string; port?: number; ttl: number };
        t.equal(ttl, 5);
        return [[key, port === undefined ? host : `${host}:${port}`]];
      }),
    );
  };
  return { client, records };
}

/** Waits for the records to be these and no others. */
export async function settlesTo(
  t: Test,
  store: SkyDnsStore,
  wanted: Record<string, unknown>,
  what: string,
): Promise<void> {
  let last: Record<string, unknown> = {};
  const sorted = (value: object): string => JSON.stringify(Object.entries(value).sort());
  await until(async () => sorted((last = await store.records())) === sorted(wanted), 20_000, what).catch(() =>
    t.same(last, wanted, what),
  );
}
