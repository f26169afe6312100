import type { Test } from 'tap';
import type { EndpointView } from '../../core/api/endpoint.js';
import type { HostView } from '../../core/api/host.js';
import type { Lab } from './lab.js';
import { enterArgs, netnsPath } from './netns.js';
import { listenIn, reaches } from './sandbox.js';
import { waitFor } from './wait.js';
import { withLab } from './with-lab.js';

export interface OutageOptions {
  readonly livenessMs: number;
  readonly awayMs: number;
}

const port = 7000;

/**
 * Takes two controllers and etcd away, attaches and detaches meanwhile, and brings them back. Fails when any
 * forwarding or neighbour entry was taken back on any host, when a host was called down afterwards, when traffic
 * stopped, or when what happened meanwhile is not published in the end.
 */
export async function outage(t: Test, { livenessMs, awayMs }: OutageOptions): Promise<void> {
  const controllerArgs = ['--liveness', `${livenessMs}ms`];
  await withLab(t, { hosts: 3, controllers: 2, controllerArgs }, async (lab) => {
    const [one, two, three] = [lab.host(1), lab.host(2), lab.host(3)];
    await one.create({ name: 'net', ipv6: true });
    const sandboxes = await Promise.all(lab.hosts.map(() => lab.sandbox()));
    const [first, second, third] = sandboxes;
    if (first === undefined || second === undefined || third === undefined)
      throw new Error('three sandboxes are needed');
    await one.attach('net', first);
    const { addresses: toSecond } = await two.attach('net', second);
    const leaving = await three.attach('net', third);
    for (const host of lab.hosts) await host.published();
    for (const address of [...toSecond, ...leaving.addresses]) await reaches(first, address);

    const echo = await listenIn(second, 'listen-udp', port);
    const steady = await listenIn(first, 'steady', toSecond[0] ?? '', port, 20);
    const monitors = await startMonitors(lab);

    await Promise.all([...lab.controllers.map(({ daemon }) => daemon.kill()), lab.etcd?.kill()]);
    const awaySinceMs = performance.now();
    const newcomer = await lab.sandbox();
    const { id: arrived, addresses: toNewcomer } = await one.attach('net', newcomer);
    for (const address of toNewcomer) await reaches(newcomer, address);
    for (const address of toSecond) await reaches(newcomer, address);
    await waitFor('the outage to have lasted', () => performance.now() - awaySinceMs > awayMs, awayMs + 1000);

    await lab.startEtcd();
    await Promise.all(lab.controllers.map((controller) => controller.start()));
    const backSinceMs = performance.now();
    const states = new Set<string>();
    await waitFor(
      'a full liveness bound to pass after the return',
      async () => {
        const hosts = await lab.controller(1).api.call<HostView[]>('GET', '/v1/hosts');
        for (const { state } of hosts) states.add(state);
        return performance.now() - backSinceMs > 1.5 * livenessMs;
      },
      2 * livenessMs + 5000,
    );
    t.notOk(states.has('down'), `no host was called down: ${[...states].join(', ')}`);
    for (const host of lab.hosts) await host.published(20_000);
    const listed = await two.api.call<EndpointView[]>('GET', '/v1/endpoints?network=net');
    t.equal(listed.length, 4, 'all endpoints are known');
    t.ok(
      listed.some(({ id }) => id === arrived),
      'what was attached meanwhile is published',
    );
    for (const address of toNewcomer) await reaches(second, address);

    t.same(withdrawn(monitors), [], 'no entry was taken back on any host');
    const { lostMs, received } = await steady.end();
    t.ok(Number(received) > awayMs / 40, `${String(received)} answers came`);
    t.ok(Number(lostMs) < 1000, `traffic never stopped: ${String(lostMs)} ms without an answer`);
    await echo.end();

    await three.detach('net', third);
    await waitFor('the detach to be seen afterwards', async () => {
      const left = await two.api.call<EndpointView[]>('GET', '/v1/endpoints?network=net');
      return left.length === 3;
    });
  });
}

/** What the kernel tells of neighbours and forwarding entries on each host, as logs. */
async function startMonitors(lab: Lab): Promise<readonly (() => string)[]> {
  const daemons = lab.hosts.flatMap(({ name, netns }) =>
    [
      ['bridge', 'monitor', 'fdb'],
      ['ip', 'monitor', 'neigh'],
    ].map((argv) => {
      const title = `${argv.join(' ')} ${name}`;
      const enter = enterArgs(netnsPath(netns));
      return lab.startDaemon({ name: title, logPath: lab.logPath(title), argv: [...enter, ...argv], env: {} });
    }),
  );
  for (const daemon of daemons) await daemon.listens();
  return daemons.map((daemon) => () => daemon.log());
}

/** Entries that somebody removed; neighbours that the kernel itself had learned on the wire may expire. */
function withdrawn(monitors: readonly (() => string)[]): string[] {
  return monitors.flatMap((log) =>
    log()
      .split('\n')
      .filter(
        (line) =>
          /^Deleted /i.test(line) &&
          /\b(ts[bxv]|vxlan|PERMANENT|permanent|static)/.test(line) &&
          !/\beth0\b/.test(line),
      ),
  );
}
