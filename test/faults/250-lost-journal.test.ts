import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { EndpointView } from '../../core/api/endpoint.js';
import type { HostView } from '../../core/api/host.js';
import type { LabHost } from '../lab/host.js';
import type { Lab } from '../lab/lab.js';
import { listenIn, mustExecIn, reaches, type Sandbox } from '../lab/sandbox.js';
import { waitFor } from '../lab/wait.js';
import { withSharedLab, type LabParts } from '../lab/with-lab.js';

/** Every way in which the journal of a stopped agent gets lost. */
const losses: Readonly<Record<string, (host: LabHost) => void>> = {
  removed: (host) => rmSync(join(host.dataDir, 'journal')),
  'removed with the cache': (host) => {
    rmSync(join(host.dataDir, 'journal'));
    rmSync(join(host.dataDir, 'cache'));
  },
  'damaged in every line': (host) => rewriteLines(host, () => true),
  'damaged in the lines of the carriers and of the host’s own addresses': (host) =>
    rewriteLines(host, (line) => /"(carrier|host-address)\//.test(line)),
  'damaged in the lines of what it holds': (host) => rewriteLines(host, (line) => /"(endpoint|block)\//.test(line)),
};

/** Turns lines into noise of the same length. */
function rewriteLines(host: LabHost, isHit: (line: string) => boolean): void {
  const path = join(host.dataDir, 'journal');
  const lines = readFileSync(path, 'latin1').split('\n');
  writeFileSync(path, lines.map((line) => (isHit(line) ? '~'.repeat(line.length) : line)).join('\n'), 'latin1');
}

const byId = (endpoints: readonly EndpointView[]): EndpointView[] =>
  [...endpoints].sort((a, b) => (a.id < b.id ? -1 : 1));

/** What a host says of its endpoints. A network that the stream has not brought yet is shown by its id. */
const ownEndpoints = (host: LabHost): Promise<EndpointView[]> =>
  waitFor(`the networks of ${host.name} to have names`, async () => {
    const views = byId(await host.api.call<readonly EndpointView[]>('GET', '/v1/agent/endpoints'));
    return views.some(({ network }) => /^[0-9a-f]{8}$/.test(network)) ? null : views;
  });

const listed = async (from: LabHost, of: LabHost): Promise<EndpointView[]> =>
  byId(await from.api.call<readonly EndpointView[]>('GET', `/v1/endpoints?host=${of.name}`));

/** Two networks with endpoints of all sorts on the first host, one far end on the second. */
async function populate(lab: Lab): Promise<{ readonly web: Sandbox; readonly far: Sandbox; readonly toFar: string }> {
  const [host, other] = [lab.host(1), lab.host(2)];
  await host.create({ name: 'net', ipv6: true });
  await host.create({ name: 'lan', driver: 'bridge' });
  const [web, far] = [await lab.sandbox(), await lab.sandbox()];
  const ports = [
    { hostAddress: null, hostPort: 8080, hostPortEnd: 8080, port: 80, portEnd: 80, protocol: 'tcp' },
  ] as const;
  await host.attach('net', web, { name: 'web', aliases: ['www'], labels: { tier: 'front' }, ports });
  await host.attach('lan', web, { id: 'web-in-lan' });
  await host.attach('net', await lab.process());
  const { addresses } = await other.attach('net', far);
  for (const each of lab.hosts) await each.published();
  for (const address of addresses) await reaches(web, address);
  return { web, far, toFar: addresses[0] ?? '' };
}

/** Nothing that was there is given to anybody else, and everything can be worked on as before. */
async function isWhole(t: Test, lab: Lab, web: Sandbox): Promise<void> {
  const [host, other] = [lab.host(1), lab.host(2)];
  const before = await ownEndpoints(host);
  const again = await host.attach('net', web, { name: 'web' });
  t.ok(
    before.some(({ id }) => id === again.id),
    'an attach that is repeated finds its endpoint',
  );
  const taken = new Set(before.flatMap(({ addresses }) => addresses));
  const fresh = await lab.sandbox();
  const added = await host.attach('net', fresh);
  t.notOk(
    added.addresses.some((address) => taken.has(address)),
    'a new endpoint gets addresses of its own',
  );
  for (const address of added.addresses) await reaches(web, address);
  await host.published();
  t.same(await listed(other, host), await ownEndpoints(host), 'both sides list the same');
  t.match(await host.json('port', 'ls'), [{ hostPort: 8080 }], 'ports are published');
  const rules = await host.exec('nft', 'list', 'ruleset');
  t.match(rules.stdout, /8080/);
  t.match(await mustExecIn(web, 'ip', 'route'), /default via/);
  for (const sandbox of [web, fresh]) t.equal((await host.detach('net', sandbox)).detached.length, 1);
  t.equal((await host.detach('lan', web)).detached.length, 1, 'and can be detached');
  t.notMatch(await mustExecIn(web, 'ip', '-br', 'link'), /eth/);
  await host.published();
  t.equal((await listed(other, host)).length, 1);
}

const rebuilt: LabParts = Object.fromEntries(
  Object.entries(losses).map(([what, lose]): [string, LabParts[string]] => [
    `a journal that was ${what} is rebuilt, and nobody notices`,
    async (t, lab) => {
      const [host, other] = [lab.host(1), lab.host(2)];
      const { web, far, toFar } = await populate(lab);
      const before = await ownEndpoints(host);
      const objects = (await host.status()).reconcile.objects;
      const links = (await host.snapshot()).links;
      const echo = await listenIn(far, 'listen-udp', 7000);
      const steady = await listenIn(web, 'steady', toFar, 7000, 10);
      await host.agent.kill();
      lose(host);
      await host.startAgent();
      t.same(await ownEndpoints(host), before, 'it knows its endpoints');
      t.same(await listed(other, host), before, 'and so does the cluster');
      await waitFor('all to be realised', async () => (await host.status()).reconcile.objects === objects);
      const cursor = (await host.status()).cursor?.revision ?? 0;
      await other.create({ name: 'later' });
      await waitFor('the stream to go on', async () => ((await host.status()).cursor?.revision ?? 0) > cursor);
      t.same((await host.snapshot()).links, links, 'no link was touched');
      const hosts = await other.api.call<readonly HostView[]>('GET', '/v1/hosts');
      t.ok(hosts.every(({ state }) => state === 'up'));
      const { lostMs } = await steady.end();
      t.ok(Number(lostMs) < 500, `traffic never stopped: ${String(lostMs)} ms without an answer`);
      await echo.end();
      await isWhole(t, lab, web);
    },
  ]),
);

t.test('a lost journal', (t) =>
  withSharedLab(
    t,
    { hosts: 2 },
    {
      ...rebuilt,
      'while no controller can be asked nothing is touched, and the agent ends when told to': async (t, lab) => {
        const [host, other] = [lab.host(1), lab.host(2)];
        const { web, far, toFar } = await populate(lab);
        const gone = await lab.process();
        const { id } = await host.attach('net', gone);
        await host.published();
        const before = await ownEndpoints(host);
        const echo = await listenIn(far, 'listen-udp', 7000);
        const steady = await listenIn(web, 'steady', toFar, 7000, 10);
        await host.agent.kill();
        await lab.controller().daemon.kill();
        const kernel = await host.snapshot();
        rmSync(join(host.dataDir, 'journal'));
        const isWaiting = (): boolean =>
          readFileSync(host.options.logPath, 'utf8').includes('no attach before a controller has said what they are');
        // What it has said in other parts is not to be heard.
        writeFileSync(host.options.logPath, '');
        await host.startAgent({ until: 'spawned' });
        await waitFor('the agent to wait', isWaiting);
        t.equal(await host.agent.stop(), 0, 'it ends cleanly');
        t.same(await host.snapshot(), kernel, 'and leaves all as it was');
        writeFileSync(host.options.logPath, '');
        await host.startAgent({ until: 'spawned' });
        await waitFor('the agent to wait again, though its journal is not new any more', isWaiting);
        await gone.daemon.kill();
        await lab.controller().start();
        await host.waitForAgent('the agent to be connected', ({ controller }) => controller !== null);
        const left = before.filter((endpoint) => endpoint.id !== id);
        t.same(await ownEndpoints(host), left, 'what lives is taken up');
        await host.published();
        await waitFor('what does not to be withdrawn', async () => (await listed(other, host)).length === left.length);
        const { lostMs } = await steady.end();
        t.ok(Number(lostMs) < 500, `traffic never stopped: ${String(lostMs)} ms without an answer`);
        await echo.end();
        await isWhole(t, lab, web);
      },
      'endpoints without a link in the host, and those that are reserved only, are taken up as well': async (
        t,
        lab,
      ) => {
        const [host, other] = [lab.host(1), lab.host(2)];
        const sandbox = await lab.sandbox();
        await host.create({ name: 'net' });
        await host.create({
          name: 'mv',
          driver: 'macvlan',
          subnets: [{ subnet: '198.18.128.0/24', gateway: '198.18.128.1' }],
          options: { parent: 'eth0' },
        });
        await host.attach('mv', sandbox);
        await host.attach('net', sandbox);
        const body = { network: 'net', id: 'later' };
        const reserved = await host.api.call<EndpointView>('POST', '/v1/agent/reserve', { body });
        await host.published();
        const before = await ownEndpoints(host);
        const inside = await mustExecIn(sandbox, 'ip', '-o', '-4', 'addr');
        await host.agent.kill();
        rmSync(join(host.dataDir, 'journal'));
        await host.startAgent();
        t.same(await ownEndpoints(host), before);
        t.same(await listed(other, host), before);
        t.equal(await mustExecIn(sandbox, 'ip', '-o', '-4', 'addr'), inside);
        const later = await lab.sandbox();
        await host.attach('net', later, { id: 'later' });
        t.match(await mustExecIn(later, 'ip', 'addr'), new RegExp(`${reserved.addresses[0] ?? 'none'}/`));
        t.equal((await host.detach('mv', sandbox)).detached.length, 1);
        t.notMatch(await mustExecIn(sandbox, 'ip', '-d', 'link'), /macvlan/);
      },
    },
  ),
);
