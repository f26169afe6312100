import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import t, { type Test } from 'tap';
import type { EndpointView } from '../../core/api/endpoint.js';
import type { LabHost } from '../lab/host.js';
import type { Lab } from '../lab/lab.js';
import { enterArgs, netnsPath } from '../lab/netns.js';
import { mustRun } from '../lab/program.js';
import { canPing, type Sandbox } from '../lab/sandbox.js';
import { settlesTo, type NetnsSnapshot } from '../lab/snapshot.js';
import { waitFor } from '../lab/wait.js';
import { withSharedLab } from '../lab/with-lab.js';
import { cniEnv, errorOf, shimPath } from './program.js';
import { idsOf, isWaiting, namesIn, pathOf, Runtime, type ResultJson } from './runtime.js';

const signals = ['SIGKILL', 'SIGTERM', 'SIGINT'] as const;

/** A host with a network that an endpoint keeps in use, so that all else is an attachment's. */
async function prepare(lab: Lab): Promise<{ host: LabHost; runtime: Runtime; bare: NetnsSnapshot; one: Sandbox }> {
  const host = lab.host(1);
  await host.create({ name: 'net', ipv6: true });
  const runtime = new Runtime(host);
  await runtime.add('stays', await lab.sandbox());
  const one = await lab.sandbox();
  await runtime.add('first', one);
  await runtime.call('DEL', { id: 'first', netns: pathOf(one) });
  await host.published();
  const links = async (): Promise<string> => (await host.exec('ip', '-br', 'link')).stdout;
  await waitFor('the deleted link to be gone', async () => ((await links()).match(/tsv-/g) ?? []).length === 1);
  return { host, runtime, bare: await host.snapshot(), one };
}

/** Asserts that only what stays is there: no link, address, rule, record or file of anything else. */
async function isBare(t: Test, { host, bare, one }: { host: LabHost; bare: NetnsSnapshot; one: Sandbox }) {
  t.same(await idsOf(host), ['stays'], 'no record');
  t.same(await namesIn(one), ['lo'], 'no interface');
  t.equal((await host.exec('ls', '-A', join(host.runDir, 'cni-spool'))).stdout, '', 'nothing in the spool');
  await settlesTo(t, () => host.snapshot(), bare);
}

t.test('runtimes that misbehave', (t) =>
  withSharedLab(
    t,
    { hosts: 1 },
    {
      'what is no namespace is refused, whatever it is, and holds nobody up': async (t, lab) => {
        const all = await prepare(lab);
        const { host, runtime, one } = all;
        const folder = join(lab.folder, 'paths');
        mkdirSync(join(folder, 'folder'), { recursive: true });
        writeFileSync(join(folder, 'file'), '');
        await mustRun('mkfifo', [join(folder, 'fifo')]);
        symlinkSync('fifo', join(folder, 'to-fifo'));
        symlinkSync('loop', join(folder, 'loop'));
        symlinkSync(pathOf(one), join(folder, 'to-netns'));
        const ports = { runtimeConfig: { portMappings: [{ hostPort: 18_090, containerPort: 80 }] } };
        const refused: readonly [netns: string, code: number][] = [
          ...['folder', 'file', 'fifo', 'to-fifo'].map((name): [string, number] => [join(folder, name), 4]),
          ...['/dev/zero', '/proc/self/ns/mnt', '/', host.socket, join(folder, 'loop')].map(
            (path): [string, number] => [path, 4],
          ),
          ...['missing', 'file/below'].map((name): [string, number] => [join(folder, name), 3]),
          ['/proc/999999999/ns/net', 3],
          ...['run/netns/x', '.', 'dummy', 'netns:/x', `/${'x'.repeat(4100)}`, `/${'x'.repeat(300)}`].map(
            (path): [string, number] => [path, 4],
          ),
        ];
        for (const [netns, code] of refused) {
          const answer = errorOf(await runtime.call('ADD', { id: 'c1', netns }, ports));
          t.equal(answer.code, code, `${netns.slice(0, 60)}: ${String(answer.msg).slice(0, 100)}`);
          t.equal((await runtime.call('DEL', { id: 'c1', netns }, ports)).status, 0, 'its DEL succeeds');
        }
        await isBare(t, all);
        const through = join(folder, 'to-netns');
        const added = (await runtime.call('ADD', { id: 'c1', netns: through }, ports)).json as ResultJson;
        t.equal(added.interfaces[2]?.sandbox, through, 'a symbolic link is what it leads to, and keeps its name');
        t.equal((await runtime.call('CHECK', { id: 'c1', netns: through }, { prevResult: added })).status, 0);
        t.equal((await runtime.call('DEL', { id: 'c1', netns: through }, ports)).status, 0);
        await isBare(t, all);
        t.equal(host.agent.isRunning(), true);
      },
      'callers killed at any time leave all or nothing, and nothing after the DEL': async (t, lab) => {
        const all = await prepare(lab);
        const { host, runtime, one } = all;
        const container = { id: 'c1', netns: pathOf(one) };
        const ports = { runtimeConfig: { portMappings: [{ hostPort: 18_091, containerPort: 80 }] } };
        const seen = { killed: 0, whole: 0, none: 0 };
        for (let round = 0; round < 40; round += 1) {
          const given = runtime.start('ADD', container, ports);
          const ended = given.ended.catch(() => ({ status: null }));
          await wait(round % 20);
          given.child.kill(signals[round % signals.length]);
          if ((await ended).status !== 0) seen.killed += 1;
          // What the agent had begun when its caller went is either finished or taken back.
          const state = await waitFor('all or nothing', async () => {
            const listed = await host.api.call<EndpointView[]>('GET', '/v1/agent/endpoints');
            const own = listed.filter(({ callerId }) => callerId === 'c1');
            const names = (await namesIn(one)).filter((name) => name !== 'lo');
            if (own.length === 0 && names.length === 0) return 'none';
            return own.length === 1 && own[0]?.state === 'attached' && names.join() === 'eth0' ? 'whole' : null;
          });
          seen[state] += 1;
          const del = runtime.start('DEL', container, ports);
          const delEnded = del.ended.catch(() => undefined);
          if (round % 2 === 0) {
            await wait(round % 7);
            del.child.kill(signals[round % signals.length]);
          }
          await delEnded;
          t.equal((await runtime.call('DEL', container, ports)).status, 0);
        }
        t.ok(seen.killed > 0 && seen.none > 0, JSON.stringify(seen));
        await isBare(t, all);
        const again = await runtime.add('c1', one, ports);
        t.ok(await canPing(one, again.ips[0]?.gateway ?? ''), 'the name, the port and the network can be used again');
        await runtime.call('DEL', container, ports);
      },
      'many calls at once for one container end with what the last one asked for': async (t, lab) => {
        const all = await prepare(lab);
        const { runtime, one } = all;
        const two = await lab.sandbox();
        for (let round = 0; round < 4; round += 1) {
          const calls = Array.from({ length: 24 }, (_, number) => {
            const sandbox = number % 3 === 0 ? two : one;
            const verb = (number + round) % 4 === 3 ? 'DEL' : 'ADD';
            const given = runtime.start(verb, { id: 'c1', netns: pathOf(sandbox) });
            if (number % 6 === 5) setTimeout(() => given.child.kill('SIGKILL'), number);
            return given.ended.catch(() => undefined);
          });
          for (const result of await Promise.all(calls)) {
            if (result === undefined || result.status === null) continue;
            t.equal(result.status, 0, result.stdout);
          }
          t.equal((await runtime.call('DEL', { id: 'c1' })).status, 0);
          t.same(await namesIn(two), ['lo']);
        }
        await isBare(t, all);
      },
      'a sandbox that vanishes while its ADD waits is an unknown container': async (t, lab) => {
        const all = await prepare(lab);
        const { host, runtime } = all;
        for (let round = 0; round < 12; round += 1) {
          const process = await lab.process();
          const container = { id: `p${round}`, netns: `/proc/${process.daemon.pid}/ns/net` };
          if (round === 0) host.agent.freeze();
          const given = runtime.start('ADD', container);
          if (round === 0) await waitFor('the call to wait for its answer', () => isWaiting(given.child.pid ?? 0));
          else await wait(round);
          await process.daemon.kill();
          if (round === 0) host.agent.thaw();
          const result = await given.ended;
          if (round === 0 || result.status !== 0) t.match(errorOf(result).code, /^(3|101)$/, result.stdout);
          t.equal((await runtime.call('DEL', container)).status, 0);
        }
        await isBare(t, all);
      },
      'a caller without standard output is not told that all is well': async (t, lab) => {
        const all = await prepare(lab);
        const { host, one } = all;
        const stdin = JSON.stringify({ cniVersion: '1.0.0', name: 'net', type: 'tsnet', agentSocket: host.socket });
        const run = async (verb: string, redirections: string): Promise<number> => {
          const line = `printf %s "$CONFIG" | "$PLUGIN" ${redirections}`;
          const [program = '', ...args] = [...enterArgs(netnsPath(host.netns)), 'sh', '-c', line];
          const env = { ...cniEnv(verb, { id: 'c1', netns: pathOf(one) }), CONFIG: stdin, PLUGIN: shimPath };
          const child = spawn(program, args, { env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', ...env } });
          const [status] = (await once(child, 'close')) as [number | null];
          return status ?? -1;
        };
        for (const redirections of ['>&-', '>&- 2>&-', '>/dev/full']) {
          t.not(await run('ADD', redirections), 0, `ADD ${redirections}`);
          t.equal(await run('DEL', redirections), 0, `DEL ${redirections} has nothing to say`);
          await isBare(t, all);
        }
        for (const redirections of ['<&-', '<&- >&-', '<&- >&- 2>&-'])
          t.equal(await run('ADD', redirections), 1, `ADD ${redirections}`);
        await isBare(t, all);
      },
      'networks of one container that are added at once, each with all ports, publish them once': async (t, lab) => {
        const { host, one } = await prepare(lab);
        for (const name of ['second', 'third']) await host.create({ name });
        await host.create({ name: 'inner', internal: true });
        // As nerdctl and Nomad write them.
        const portMappings = ['tcp', 'udp'].map((Protocol) => ({
          HostPort: 18_093,
          ContainerPort: 80,
          Protocol,
          HostIP: '0.0.0.0',
        }));
        const networks = ['second', 'third', 'inner'].map((name, at) => ({
          runtime: new Runtime(host, { cniVersion: '1.0.0', name }),
          container: { id: 'c1', netns: pathOf(one), ifname: `eth${at}` },
        }));
        const all = (verb: string) =>
          Promise.all(
            networks.map((each) => each.runtime.call(verb, each.container, { runtimeConfig: { portMappings } })),
          );
        const ports = async (): Promise<string[]> =>
          (await host.api.call<EndpointView[]>('GET', '/v1/agent/endpoints'))
            .flatMap((each) => (each.ports ?? []).map(({ protocol }) => `${each.callerId} ${protocol}`))
            .sort();
        for (const verb of ['ADD', 'ADD', 'DEL', 'ADD']) {
          t.same(
            (await all(verb)).map(({ status }) => status),
            [0, 0, 0],
            verb,
          );
          t.same(await ports(), verb === 'DEL' ? [] : ['c1 tcp', 'c1 udp']);
        }
        const two = await lab.sandbox();
        const taken = { id: 'c2', netns: pathOf(two) };
        const runtime = new Runtime(host, { name: 'second' });
        const refused = await runtime.call('ADD', taken, { runtimeConfig: { portMappings } });
        t.match(errorOf(refused), { code: 100, msg: /18093/ }, 'another container does not get them');
        t.same(await namesIn(two), ['lo']);
        t.same(
          (await all('DEL')).map(({ status }) => status),
          [0, 0, 0],
        );
        t.equal(
          (await runtime.call('ADD', taken, { runtimeConfig: { portMappings } })).status,
          0,
          'until they are free',
        );
        t.equal((await runtime.call('DEL', taken)).status, 0);
      },
      'configurations at their bounds pass through or are refused': async (t, lab) => {
        const all = await prepare(lab);
        const { runtime, one } = all;
        const container = { id: 'c1', netns: pathOf(one) };
        const nested = (levels: number): unknown => JSON.parse(`${'['.repeat(levels)}${']'.repeat(levels)}`) as unknown;
        const long = await runtime.call('ADD', container, { x: 'x'.repeat(1_000_000), deep: nested(254) });
        t.equal(long.status, 0, long.stdout.slice(0, 200));
        const interfaces = Array.from({ length: 9000 }, (_, at) => ({
          name: `if${at}`,
          mac: '02:00:00:00:00:01',
          sandbox: 'x',
        }));
        const prevResult = { cniVersion: '1.0.0', interfaces, ips: [] };
        const chained = await runtime.call('ADD', container, { prevResult });
        t.equal((chained.json as ResultJson | undefined)?.interfaces.length, 9003, 'a long result comes whole');
        t.match(errorOf(await runtime.call('ADD', container, { deep: nested(256) })), { code: 6 });
        t.match(errorOf(await runtime.call('ADD', container, { x: 'x'.repeat(1 << 20) })), { code: 6 });
        t.match(errorOf(await runtime.call('ADD', { ...container, args: `X=${'x'.repeat(131_050)}` })), { code: 4 });
        const args = `IgnoreUnknown=1;K8S_POD_NAME=${'p'.repeat(100_000)}`;
        t.equal((await runtime.call('ADD', { ...container, args })).status, 0, 'what is no name is left out');
        const refused: readonly [object, RegExp][] = [
          [{ runtimeConfig: { portMappings: [{ hostPort: '8080', containerPort: 80 }] } }, /hostPort: "8080" is not/],
          [{ runtimeConfig: { bandwidth: { ingressRate: '1000', ingressBurst: 5 } } }, /ingressRate: "1000" is not/],
          [{ runtimeConfig: { portMappings: [{ hostPort: 1e300, containerPort: 80 }] } }, /hostPort/],
          [{ runtimeConfig: { ips: ['\ud800'] } }, /./],
          [{ runtimeConfig: { mac: '02:00:00:00:00:01\0' } }, /./],
          [{ network: 'a\0b' }, /./],
          [{ network: '\udfff' }, /there is no network "\\udfff"/],
          [{ network: 'n'.repeat(100_000) }, /there is no network "n{61}\.{3}"/],
          [{ network: 7 }, /network: 7 is not a string/],
          [{ prevResult: 'x' }, /prevResult/],
        ];
        for (const [more, msg] of refused) {
          const answer = errorOf(await runtime.call('ADD', { ...container, id: 'c2', ifname: 'eth1' }, more));
          t.match(answer, { code: 7, msg }, JSON.stringify(more));
        }
        t.equal((await runtime.call('DEL', container)).status, 0);
        await isBare(t, all);
      },
    },
  ),
);
