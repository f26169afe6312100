import t from 'tap';
import type { Lab } from '../lab/lab.js';
import { place } from '../lab/place.js';
import { Talker } from '../lab/talker.js';
import { underlayAddress, underlayAddress6 } from '../lab/underlay.js';
import { waitFor } from '../lab/wait.js';
import { withLab } from '../lab/with-lab.js';

interface NftRule {
  readonly family: string;
  readonly table: string;
  readonly chain: string;
  readonly handle: number;
}

/** Where each rule stands in its chain, and how long each chain is. */
interface Rules {
  readonly position: ReadonlyMap<string, number>;
  readonly length: ReadonlyMap<string, number>;
}

async function rulesOf(lab: Lab): Promise<Rules> {
  const { stdout } = await lab.host(1).exec('nft', '-j', 'list', 'ruleset');
  const { nftables } = JSON.parse(stdout) as { nftables: { rule?: NftRule }[] };
  const [position, length] = [new Map<string, number>(), new Map<string, number>()];
  for (const { rule } of nftables) {
    if (rule === undefined) continue;
    const chain = `${rule.family} ${rule.table} ${rule.chain}`;
    length.set(chain, (length.get(chain) ?? 0) + 1);
    position.set(`${chain} ${rule.handle}`, length.get(chain) ?? 0);
  }
  return { position, length };
}

/** One packet at one base chain of ours: which, and how many rules were looked at for it. */
interface Pass {
  readonly hook: string;
  readonly rules: number;
}

/** A trace tells of rules that match; those before them in a chain were looked at too, and all of a chain that none ended. */
function passesOf(trace: string, { position, length }: Rules): Pass[] {
  const passes: Pass[] = [];
  let [hook, chains] = ['', new Map<string, number>()];
  const end = (): void => {
    const rules = [...chains.values()].reduce((sum, count) => sum + count, 0);
    if (/tsnet/.test(hook)) passes.push({ hook, rules });
    [hook, chains] = ['', new Map()];
  };
  for (const line of trace.split('\n')) {
    const [, chain = '', what = ''] = /^trace id \S+ (\S+ \S+ \S+) (.*)$/.exec(line) ?? [];
    if (what.startsWith('packet:')) {
      end();
      hook = `${chain} ${/iif "(eth|ts[bv])/.exec(what)?.[1] ?? ''}`;
      chains.set(chain, length.get(chain) ?? 0);
    } else if (what.startsWith('rule')) {
      const at = position.get(`${chain} ${/# handle (\d+) \(/.exec(what)?.[1] ?? ''}`) ?? 0;
      const [, verdict = '', target = ''] = /\(verdict (\w+) ?(.*)\)$/.exec(what) ?? [];
      if (verdict !== 'continue' && chain.includes('tsnet')) chains.set(chain, at);
      const next = chain.replace(/\S+$/, target);
      if (verdict === 'goto' || verdict === 'jump') chains.set(next, length.get(next) ?? 0);
    }
  }
  end();
  return passes;
}

const watch = [
  'add table inet watch',
  'add chain inet watch in { type filter hook prerouting priority -400; }',
  'add rule inet watch in tcp dport 8080 meta nftrace set 1',
  'add table bridge watch',
  'add chain bridge watch in { type filter hook prerouting priority -400; }',
  'add rule bridge watch in iifname "tsv-*" tcp sport 80 meta nftrace set 1',
];

t.test('packets of a published port meet few rules, most of them the fewest', async (t) => {
  await withLab(t, { hosts: 1 }, async (lab) => {
    const host = lab.host(1);
    await host.create({ name: 'front', ipv6: true });
    const sandbox = await lab.sandbox();
    await host.attach('front', sandbox, { ports: [{ hostPort: 8080, port: 80 }] });
    const server = await Talker.start(sandbox.enter, [80]);
    const client = await Talker.start(place(lab, 'lan').enter, []);
    try {
      for (const line of watch) t.equal((await host.exec('nft', line)).status, 0, line);
      const rules = await rulesOf(lab);
      for (const [family, address] of [
        [4, underlayAddress(11)],
        [6, underlayAddress6(11)],
      ] as const) {
        const monitor = lab.startDaemon({
          name: `trace ${family}`,
          logPath: lab.logPath(`trace-${family}`),
          argv: [...place(lab, 'h1').enter, 'stdbuf', '-oL', 'nft', '-a', 'monitor', 'trace'],
          env: {},
        });
        await monitor.listens();
        const say = await client.open({ protocol: 'tcp', address, port: 8080 });
        t.ok(await say());
        const seen = (hook: string): number[] =>
          passesOf(monitor.log(), rules)
            .filter((pass) => pass.hook === hook)
            .map((pass) => pass.rules);
        const hooks = [
          'inet tsnet raw-in eth',
          'inet tsnet forward eth',
          'bridge tsnet-origin origin tsv',
          'inet tsnet raw-in tsb',
          'inet tsnet forward tsb',
        ];
        await waitFor('packets both ways', () => hooks.every((hook) => seen(hook).length > 2));
        const [rawIn, forwardIn, origin, rawOut, forwardOut] = hooks.map((hook) => seen(hook));
        const first = [
          rawIn?.[0],
          seen('inet tsnet nat-in eth')[0],
          forwardIn?.[0],
          seen('inet tsnet nat-post eth')[0],
        ];
        const later = (passes: number[] | undefined): number => Math.max(...(passes ?? [Infinity]).slice(1));
        const sum = (...counts: (number | undefined)[]): number =>
          counts.reduce<number>((all, each) => all + (each ?? NaN), 0);
        t.comment(`IPv${family}`, { first, rawIn, forwardIn, origin, rawOut, forwardOut });
        t.ok(sum(...first) <= (family === 4 ? 20 : 22), `IPv${family}: the first packet meets ${sum(...first)} rules`);
        t.ok(
          sum(later(rawIn), later(forwardIn)) <= 6,
          `IPv${family}: those after it ${sum(later(rawIn), later(forwardIn))}`,
        );
        const back = sum(later(origin), later(rawOut), later(forwardOut));
        t.ok(back <= (family === 4 ? 16 : 19), `IPv${family}: replies ${back}`);
        t.equal(seen('inet tsnet nat-in eth').length, 1, 'what is to be translated is looked up once for a connection');
        await monitor.stop();
      }
      for (const family of ['inet', 'bridge']) await host.exec('nft', 'delete', 'table', family, 'watch');
    } finally {
      await client.end();
      await server.end();
    }
  });
});
