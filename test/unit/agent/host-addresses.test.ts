import { pino } from 'pino';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import { isUsable, newGrid, usableCount } from '../../../core/grid.js';
import { parseAddr } from '../../../core/addr.js';
import { TsnetError } from '../../../core/errors.js';
import type { Network } from '../../../core/model.js';
import { HostAddresses, type BlockLoss } from '../../../agent/ipam/host-addresses.js';
import { Journal } from '../../../agent/journal/journal.js';
import { FakeController, turn } from './fake-controller.js';
import { endpointId, networkId, newNetwork, newOwn } from './records.js';

const log = pino({ level: 'silent' });
const quarantineMs = 1000;
const carrier = (host: string) => ({
  network: networkId,
  host,
  vtep: '198.18.0.1',
  addresses: [],
  mac: '02:00:00:00:00:01',
});

/** A host with its journal; restarts keep the journal. */
class TestHost {
  readonly name: string;
  readonly losses: BlockLoss[] = [];
  /** Addresses of endpoints by endpoint id. */
  readonly held = new Map<string, readonly string[]>();
  readonly #dir: string;
  readonly #controller: FakeController;
  readonly #clock: { nowMs: number };
  journal: Journal;
  addresses: HostAddresses;
  #count = 0;
  #bootMs = 0;

  constructor(name: string, dir: string, parts: { controller: FakeController; clock: { nowMs: number } }) {
    this.name = name;
    this.#dir = dir;
    this.#controller = parts.controller;
    this.#clock = parts.clock;
    [this.journal, this.addresses] = this.#open();
    this.#controller.connect(name, this.addresses);
  }

  async attach(fixed: readonly string[] = []): Promise<readonly string[]> {
    const { addresses, journal } = this;
    const given = await addresses.allocate(this.#controller.network, fixed);
    // The host was killed meanwhile: whoever asked is gone too.
    if (addresses !== this.addresses) return [];
    const id = endpointId((this.#count += 1) * 16 + this.name.charCodeAt(0) - 96);
    journal.putEndpoint(newOwn({ id, host: this.name, addresses: given, generation: journal.nextGeneration() }));
    this.held.set(id, given);
    return given;
  }

  detach(id: string): void {
    const given = this.held.get(id) ?? [];
    this.held.delete(id);
    this.journal.removeEndpoint(id);
    this.addresses.release(networkId, given);
  }

  /** Killed and started again. */
  async restart(isConnected = true): Promise<void> {
    this.#controller.disconnect(this.name);
    this.addresses.close();
    await this.journal.close();
    [this.journal, this.addresses] = this.#open();
    if (isConnected) this.#controller.connect(this.name, this.addresses);
  }

  /** The machine was started again; its uptime begins anew. */
  async reboot(): Promise<void> {
    this.#bootMs = this.#clock.nowMs;
    await this.restart();
  }

  async close(): Promise<void> {
    this.addresses.close();
    await this.journal.close();
  }

  #open(): [Journal, HostAddresses] {
    const { journal, warnings } = Journal.open(this.#dir);
    if (warnings[0] !== undefined) throw warnings[0];
    const addresses = new HostAddresses({
      host: this.name,
      journal,
      log,
      quarantineMs,
      state: { network: (id) => (id === networkId ? this.#controller.network : undefined) },
      source: this.#controller.source(this.name),
      clocks: { monoMs: () => this.#clock.nowMs, uptimeMs: () => this.#clock.nowMs - this.#bootMs },
      sweepMs: 1e9,
    });
    addresses.onLoss((loss) => {
      this.losses.push(loss);
      for (const id of loss.endpoints) {
        this.held.delete(id);
        journal.removeEndpoint(id);
      }
    });
    return [journal, addresses];
  }
}

interface Cluster {
  readonly controller: FakeController;
  readonly clock: { nowMs: number };
  readonly hosts: readonly TestHost[];
  readonly settle: () => Promise<void>;
  readonly close: () => Promise<void>;
}

function newCluster(dir: string, names: readonly string[], network: Network = newNetwork()): Cluster {
  const controller = new FakeController(network);
  const clock = { nowMs: 1e6 };
  const hosts = names.map((name) => new TestHost(name, `${dir}/${name}`, { controller, clock }));
  return {
    controller,
    clock,
    hosts,
    settle: async () => {
      for (let step = 0; step < 50; step += 1) await turn();
    },
    close: async () => {
      for (const host of hosts) await host.close();
    },
  };
}

async function two(t: Test, network?: Network): Promise<Cluster & { readonly a: TestHost; readonly b: TestHost }> {
  const cluster = newCluster(t.testdir(), ['a', 'b'], network);
  t.teardown(cluster.close);
  const [a, b] = cluster.hosts;
  if (a === undefined || b === undefined) throw new Error('two hosts');
  return { ...cluster, a, b };
}

async function one(t: Test, network?: Network): Promise<Cluster & { readonly a: TestHost }> {
  return two(t, network);
}

t.test('two hundred attaches at once share the requests for blocks and get different addresses', async (t) => {
  const { controller, a } = await one(t, newNetwork({ subnets: [{ subnet: '10.64.0.0/20', gateway: '10.64.0.1' }] }));
  const given = await Promise.all(Array.from({ length: 200 }, () => a.attach()));
  t.equal(new Set(given.flat()).size, 200);
  t.ok(controller.requests <= 40, `${controller.requests} requests`);
});

t.test(
  'both families get an address each, in the order of the subnets; a fixed one stands for its subnet',
  async (t) => {
    const subnets = [
      { subnet: 'fd00:64::/64', gateway: 'fd00:64::1' },
      { subnet: '10.64.0.0/24', gateway: '10.64.0.1' },
    ];
    const { a } = await one(t, newNetwork({ subnets }));
    const [v6 = '', v4 = ''] = await a.attach(['10.64.0.77']);
    t.match(v6, /^fd00:64::/);
    t.equal(v4, '10.64.0.77');
  },
);

t.test(
  'what cannot be given is a typed error that names the value, and nothing of a failed attach is kept',
  async (t) => {
    const { a, b, settle } = await two(t);
    await t.rejects(a.attach(['10.9.0.1']), { code: 'ERR_ADDRESS_OUTSIDE_SUBNET', message: /10\.9\.0\.1/ });
    await t.rejects(a.attach(['10.64.0.1']), { code: 'ERR_ADDRESS_RESERVED' });
    await t.rejects(a.attach(['10.64.0.255']), { code: 'ERR_ADDRESS_RESERVED' });
    await t.rejects(a.attach(['10.64.0.300']), { code: 'ERR_INVALID_ADDRESS' });
    await t.rejects(a.attach(['10.64.0.5', '10.64.0.6']), { code: 'ERR_INVALID_REQUEST' });
    await a.attach(['10.64.0.20']);
    await t.rejects(a.attach(['10.64.0.20']), {
      code: 'ERR_ADDRESS_IN_USE',
      message: /10\.64\.0\.20.*endpoint web on host a/,
    });
    await t.rejects(b.attach(['10.64.0.20']), { code: 'ERR_ADDRESS_IN_USE', message: /host a/ });
    await settle();
    t.equal(a.held.size, 1);
  },
);

t.test("a fixed address in use in another host's block names the endpoint that holds it", async (t) => {
  const { a, b } = await two(t);
  const [address = ''] = await a.attach();
  await t.rejects(b.attach([address]), { code: 'ERR_ADDRESS_IN_USE', message: /endpoint web on host a/ });
});

t.test("a free address inside another host's block is carved out, and its owner never gives it", async (t) => {
  const { a, b, controller } = await two(t);
  const [first = ''] = await a.attach();
  const [block] = controller.blocksOf('a').filter(({ cidr }) => cidr.endsWith('/29'));
  const wanted = [...Array(8).keys()].map((offset) =>
    first.replace(/\d+$/, String((Number(/\d+$/.exec(first)?.[0]) & ~7) + offset)),
  );
  const free = wanted.filter(
    (address) =>
      address !== first &&
      isUsable(newGrid(controller.network.subnets[0] ?? { subnet: '', gateway: null }), parseAddr(address)),
  );
  const [target = ''] = free.slice(-1);
  t.ok(block !== undefined && target !== '');
  t.strictSame(await b.attach([target]), [target]);
  await a.restart();
  const rest = await Promise.all(free.map(() => a.attach()));
  t.notOk(rest.flat().includes(target));
  await t.rejects(a.attach([target]), { code: 'ERR_ADDRESS_IN_USE', message: /host b/ });
});

t.test('a container made anew on another host with the same address gets it at once', async (t) => {
  const { a, b, settle } = await two(t);
  await a.attach(['10.64.0.50']);
  const [id = ''] = a.held.keys();
  a.detach(id);
  await settle();
  t.strictSame(await b.attach(['10.64.0.50']), ['10.64.0.50']);
  const [block = ''] = (await a.attach()) ?? [];
  const [, later = ''] = [...a.held.keys()];
  t.equal(later, '');
  const [only = ''] = a.held.keys();
  a.detach(only);
  t.strictSame(await b.attach([block]), [block], 'also out of the block of the other, and while it rests');
});

t.test('a released address rests before it is given again, also across a restart', async (t) => {
  const { a, clock } = await one(t, newNetwork({ subnets: [{ subnet: '10.64.0.0/29', gateway: '10.64.0.1' }] }));
  const all = await Promise.all(Array.from({ length: 5 }, () => a.attach()));
  const [id = ''] = a.held.keys();
  a.detach(id);
  await t.rejects(a.attach(), {
    code: 'ERR_ADDRESS_EXHAUSTED',
    message: /; 1 released on this host rest for 1 s/,
    details: { resting: 1 },
  });
  clock.nowMs += quarantineMs / 2;
  await a.restart();
  await t.rejects(a.attach(), { code: 'ERR_ADDRESS_EXHAUSTED', message: /frontend.*used/ });
  clock.nowMs += quarantineMs / 2 + 1;
  t.strictSame(await a.attach(), all[0]);
});

t.test('a rest that a reboot interrupted is never shorter, and begins anew at most once', async (t) => {
  const subnets = [{ subnet: '10.64.0.0/29', gateway: '10.64.0.1' }];
  for (const upMs of [0, 100, quarantineMs, 10 * quarantineMs]) {
    const { a, clock } = await one(t, newNetwork({ subnets }));
    clock.nowMs += upMs;
    const all = await Promise.all(Array.from({ length: 5 }, () => a.attach()));
    const [id = ''] = a.held.keys();
    a.detach(id);
    const releasedMs = clock.nowMs;
    clock.nowMs += quarantineMs / 4;
    await a.reboot();
    const rebootMs = clock.nowMs;
    for (let given: readonly string[] | undefined; given === undefined; clock.nowMs += quarantineMs / 4) {
      await a.restart();
      given = await a.attach().catch(() => undefined);
      if (given === undefined) continue;
      t.strictSame(given, all[0]);
      t.ok(clock.nowMs - releasedMs >= quarantineMs, `up for ${upMs} ms: it has rested`);
      t.ok(clock.nowMs - rebootMs <= quarantineMs, 'and no longer than one rest after the reboot');
    }
  }
});

t.test('no clock that is set ends a rest or makes it longer', async (t) => {
  const { a, clock } = await one(t, newNetwork({ subnets: [{ subnet: '10.64.0.0/29', gateway: '10.64.0.1' }] }));
  const realNow = Date.now;
  t.teardown(() => (Date.now = realNow));
  const yearMs = 365 * 86_400_000;
  for (const jumpMs of [yearMs, -86_400_000]) {
    const held = await Promise.all(Array.from({ length: 5 - a.held.size }, () => a.attach()));
    t.ok(held);
    const [[id = '', given] = []] = a.held;
    a.detach(id);
    Date.now = () => realNow() + jumpMs;
    clock.nowMs += quarantineMs / 2;
    await a.restart();
    await t.rejects(a.attach(), { code: 'ERR_ADDRESS_EXHAUSTED' }, `${jumpMs} ms: not early`);
    clock.nowMs += quarantineMs / 2 + 1;
    t.strictSame(await a.attach(), given, `${jumpMs} ms: and in time`);
    Date.now = realNow;
  }
});

t.test('a rest that an older version wrote by the wall clock is kept once', async (t) => {
  const { a, clock } = await one(t, newNetwork({ subnets: [{ subnet: '10.64.0.0/29', gateway: '10.64.0.1' }] }));
  const all = await Promise.all(Array.from({ length: 5 }, () => a.attach()));
  const [id = ''] = a.held.keys();
  a.detach(id);
  const [address = ''] = all[0] ?? [];
  a.journal.addresses.putResting([{ network: networkId, address, untilMs: Date.now() + quarantineMs }], 0);
  await a.restart();
  await t.rejects(a.attach(), { code: 'ERR_ADDRESS_EXHAUSTED' });
  clock.nowMs += quarantineMs + 1;
  await a.restart();
  t.strictSame(await a.attach(), all[0]);
});

t.test('with the controller away a host gives what its blocks have, then says that it has none', async (t) => {
  const { a, controller } = await one(t);
  await a.attach();
  controller.disconnect('a');
  let given = 0;
  await t.rejects(
    async () => {
      for (;;) {
        await a.attach();
        given += 1;
      }
    },
    { code: 'ERR_NO_BLOCK', message: /away/ },
  );
  t.ok(given >= 5);
  await t.rejects(a.attach(['10.64.0.200']), { code: 'ERR_NO_BLOCK' });
  controller.connect('a', a.addresses);
  t.ok(await a.attach());
});

t.test(
  'the host has one address of its own a subnet, the same after a restart, and gives it back with the network',
  async (t) => {
    const { a, controller, clock, settle } = await one(t);
    const both = await Promise.all([
      a.addresses.ensureHostAddresses(controller.network),
      a.addresses.ensureHostAddresses(controller.network),
    ]);
    t.strictSame(both[0], both[1]);
    a.journal.putCarrier(carrier('a'));
    await a.restart();
    t.strictSame(await a.addresses.ensureHostAddresses(controller.network), both[0]);
    const [given = ''] = await a.attach();
    t.not(given, both[0]?.[0]);
    await t.rejects(a.attach(both[0] ?? []), { code: 'ERR_ADDRESS_IN_USE', message: /host a itself/ });

    const [id = ''] = a.held.keys();
    a.detach(id);
    for (let round = 0; round < 4; round += 1) {
      clock.nowMs += quarantineMs + 1;
      a.addresses.sweep();
      await settle();
    }
    t.ok(controller.blocksOf('a').length >= 1, 'a block stays while the network is carried');
    a.journal.removeCarrier(networkId);
    a.addresses.releaseHost(networkId);
    a.addresses.sweep();
    await settle();
    t.ok(controller.blocksOf('a').length >= 1, "the host's own address rests");
    for (let round = 0; round < 3; round += 1) {
      clock.nowMs += quarantineMs + 1;
      a.addresses.sweep();
      await settle();
    }
    t.strictSame(controller.blocks, []);
    t.strictSame([...a.journal.addresses.blocks()], []);
  },
);

t.test('a block whose grant was never heard of goes back after a while', async (t) => {
  const { a, controller, clock, settle } = await one(t);
  controller.losesAnswer = () => true;
  await t.rejects(a.attach(), { code: 'ERR_NO_BLOCK' });
  controller.losesAnswer = () => false;
  await settle();
  t.equal(controller.blocksOf('a').length, 1);
  clock.nowMs += quarantineMs + 1;
  a.addresses.sweep();
  await settle();
  t.strictSame(controller.blocks, []);
});

t.test('a block granted anew and given up again while its return is on its way goes back as well', async (t) => {
  const { a, controller, clock, settle } = await one(t);
  const source = controller.source('a');
  const told: number[] = [];
  let hearFirst = (): void => undefined;
  const firstHeard = new Promise<void>((resolve) => (hearFirst = resolve));
  controller.source = () => ({
    ...source,
    release: async (release) => {
      told.push(release.generation);
      await source.release(release);
      if (told.length === 1) await firstHeard;
    },
  });
  await a.restart();
  const grantUnheard = async (): Promise<number> => {
    controller.losesAnswer = () => true;
    await t.rejects(a.attach(), { code: 'ERR_NO_BLOCK' });
    controller.losesAnswer = () => false;
    await settle();
    const [block] = controller.blocksOf('a');
    clock.nowMs += quarantineMs + 1;
    a.addresses.sweep();
    return block?.generation ?? 0;
  };
  const first = await grantUnheard();
  await settle();
  t.strictSame(controller.blocks, [], 'the controller has it, the host does not know yet');
  const second = await grantUnheard();
  t.ok(second > first);
  hearFirst();
  await settle();
  t.strictSame(told, [first, second]);
  t.strictSame(controller.blocks, []);
  t.strictSame([...a.journal.addresses.returns()], []);
});

t.test('a return that could not be told is told after a restart', async (t) => {
  const { a, controller, settle } = await one(t);
  const singles = () => controller.blocks.filter(({ cidr }) => cidr === '10.64.0.50/32');
  await a.attach(['10.64.0.50']);
  await settle();
  t.equal(singles().length, 1);
  controller.disconnect('a');
  const [id = ''] = a.held.keys();
  a.detach(id);
  t.equal(a.journal.addresses.block(networkId, '10.64.0.50/32'), undefined);
  await a.restart();
  await settle();
  t.strictSame(singles(), []);
  t.strictSame([...a.journal.addresses.returns()], []);
});

t.test('a host that was removed and comes back keeps what nobody took and withdraws the rest', async (t) => {
  const { a, b, controller, settle } = await two(
    t,
    newNetwork({ subnets: [{ subnet: '10.64.0.0/28', gateway: '10.64.0.1' }] }),
  );
  for (let count = 0; count < 5; count += 1) await a.attach();
  await a.addresses.ensureHostAddresses(controller.network);
  controller.disconnect('a');
  controller.removeHost('a');
  t.strictSame(controller.blocks, []);
  const taken = new Set((await Promise.all(Array.from({ length: 10 }, () => b.attach()))).flat());
  controller.connect('a', a.addresses);
  await settle();
  t.ok(a.losses.length > 0);
  const lost = new Set(a.losses.flatMap(({ addresses }) => addresses));
  for (const addresses of a.held.values())
    for (const address of addresses) t.notOk(taken.has(address) || lost.has(address));
  const held = [...a.held.values(), ...b.held.values()].flat();
  t.equal(new Set(held).size, held.length);
  const own = controller.blocksOf('a').map(({ cidr }) => cidr);
  t.strictSame([...a.journal.addresses.blocks()].map(({ cidr }) => cidr).sort(), [...own].sort());
});

t.test('an answer to a carve is the same after a restart', async (t) => {
  const { a, controller } = await one(t);
  await a.attach();
  const [block] = controller.blocksOf('a');
  const answers: (string | null)[] = [];
  const source = controller.source('a');
  const carve = {
    v: 1,
    generation: 1,
    id: endpointId(77),
    network: networkId,
    cidr: block?.cidr ?? '',
    address: null,
    owner: 'a',
    requester: 'b',
  } as const;
  controller.source = () => ({
    ...source,
    answer: (_id, { address }) => {
      answers.push(address);
      return answers.length === 1 ? Promise.reject(new TsnetError('ERR_NOT_FOUND', 'over')) : Promise.resolve();
    },
  });
  await a.restart(false);
  a.addresses.carvePut(carve);
  await turn();
  await a.restart(false);
  await turn();
  a.addresses.carvePut(carve);
  await turn();
  t.equal(answers.length, 2);
  t.type(answers[0], 'string');
  t.equal(answers[1], answers[0]);
  const given = await Promise.all([a.attach(), a.attach(), a.attach()]);
  t.notOk(given.flat().includes(answers[0] ?? ''), 'it is withheld');
  a.addresses.carveGone(carve.id);
  t.strictSame([...a.journal.addresses.carves()], []);
  t.strictSame(await a.attach([answers[0] ?? '']), [answers[0]], 'and back when the carve came to nothing');
});

type Step =
  | {
      readonly what: 'attach' | 'detach' | 'restart' | 'outage' | 'return';
      readonly host: number;
      readonly pick: number;
    }
  | { readonly what: 'fixed'; readonly host: number; readonly pick: number }
  | { readonly what: 'time' | 'settle'; readonly host: number; readonly pick: number };

const steps: fc.Arbitrary<Step> = fc.record({
  what: fc.oneof(
    { weight: 10, arbitrary: fc.constant('attach' as const) },
    { weight: 5, arbitrary: fc.constant('fixed' as const) },
    { weight: 8, arbitrary: fc.constant('detach' as const) },
    { weight: 2, arbitrary: fc.constantFrom('restart' as const, 'outage' as const, 'return' as const) },
    { weight: 4, arbitrary: fc.constantFrom('time' as const, 'settle' as const) },
  ),
  host: fc.integer({ min: 0, max: 2 }),
  pick: fc.nat(63),
});

const expectedCodes = new Set([
  'ERR_ADDRESS_IN_USE',
  'ERR_ADDRESS_EXHAUSTED',
  'ERR_NO_BLOCK',
  'ERR_ADDRESS_HELD_ELSEWHERE',
  'ERR_ADDRESS_RESERVED',
  'ERR_STORE_CONFLICT',
]);

t.test('whatever hosts do, no address is held twice, and in the end every address can be used', async (t) => {
  const dir = t.testdir();
  let run = 0;
  const network = newNetwork({ subnets: [{ subnet: '10.64.0.0/28', gateway: '10.64.0.1' }] });
  const grid = newGrid({ subnet: '10.64.0.0/28', gateway: '10.64.0.1' });
  const outcomes = new Map<string, number>();
  await fc.assert(
    fc.asyncProperty(
      fc.array(steps, { minLength: 20, maxLength: 120 }),
      fc.infiniteStream(fc.nat(9)),
      async (list, dice) => {
        const cluster = newCluster(`${dir}/${(run += 1)}`, ['a', 'b', 'c'], network);
        const { controller, clock, hosts, settle } = cluster;
        controller.losesAnswer = () => dice.next().value === 0;
        const pending: Promise<void>[] = [];
        const note = (what: string): void => void outcomes.set(what, (outcomes.get(what) ?? 0) + 1);
        const check = (): void => {
          const held = hosts.flatMap((host) => [...host.held.values()].flat());
          if (new Set(held).size !== held.length) throw new Error(`given twice: ${held.sort().join(' ')}`);
          const wrong = held.find((address) => !isUsable(grid, parseAddr(address)));
          if (wrong !== undefined) throw new Error(`not usable: ${wrong}`);
        };
        try {
          for (const { what, host: index, pick } of list) {
            const host = hosts[index];
            if (host === undefined) continue;
            if (what === 'attach' || what === 'fixed') {
              const fixed = what === 'fixed' ? [`10.64.0.${pick % 16}`] : [];
              const attach = host.attach(fixed).then(
                () => note(`${what} ok`),
                (error: unknown) => {
                  note(`${what} ${error instanceof TsnetError ? error.code : String(error)}`);
                  if (!(error instanceof TsnetError) || !expectedCodes.has(error.code)) {
                    if (!(error instanceof TsnetError) || error.code !== 'ERR_STOPPING') throw error;
                  }
                },
              );
              attach.catch(() => undefined);
              pending.push(attach);
            } else if (what === 'detach') {
              const ids = [...host.held.keys()];
              const id = ids[pick % Math.max(1, ids.length)];
              if (id !== undefined) host.detach(id);
            } else if (what === 'restart') {
              await host.restart(!controller.away.has(host.name));
            } else if (what === 'outage') {
              controller.disconnect(host.name);
            } else if (what === 'return') {
              if (controller.away.has(host.name)) controller.connect(host.name, host.addresses);
            } else if (what === 'time') {
              clock.nowMs += pick * 50;
              for (const each of hosts) each.addresses.sweep();
            } else {
              await settle();
            }
            check();
          }
          controller.losesAnswer = () => false;
          for (const host of hosts) controller.connect(host.name, host.addresses);
          await Promise.all(pending);
          check();
          for (const host of hosts) for (const id of [...host.held.keys()]) host.detach(id);
          for (let round = 0; round < 8 && controller.blocks.length > 0; round += 1) {
            clock.nowMs += quarantineMs + 1;
            for (const host of hosts) controller.connect(host.name, host.addresses);
            for (const host of hosts) host.addresses.sweep();
            for (const deadlineMs = performance.now() + 1000; performance.now() < deadlineMs;) {
              await settle();
              if (hosts.every((host) => [...host.journal.addresses.returns()].length === 0)) break;
            }
          }
          if (controller.blocks.length > 0) throw new Error(`never returned: ${JSON.stringify(controller.blocks)}`);
          const [first] = hosts;
          const usable = Number(usableCount(grid));
          for (let count = 0; count < usable; count += 1) await first?.attach();
          check();
          if (first?.held.size !== usable) throw new Error(`${first?.held.size ?? 0} of ${usable} addresses`);
        } finally {
          await cluster.close();
        }
      },
    ),
    { numRuns: 60 },
  );
  t.ok((outcomes.get('attach ok') ?? 0) > 100);
  t.ok((outcomes.get('attach ERR_ADDRESS_EXHAUSTED') ?? 0) > 0, 'more was asked for than there is');
  t.ok((outcomes.get('fixed ok') ?? 0) > 50);
  t.comment(JSON.stringify(Object.fromEntries(outcomes)));
});
