import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { EndpointView } from '../../core/api/endpoint.js';
import { isErrorBody, type ErrorBody } from '../../core/errors.js';
import type { LabHost } from '../lab/host.js';
import { reaches } from '../lab/sandbox.js';
import { settlesTo } from '../lab/snapshot.js';
import { waitFor } from '../lab/wait.js';
import { withLab, withSharedLab } from '../lab/with-lab.js';

/** What a host keeps of a network for a while after its last endpoint goes soon. */
const soonIdle = ['--quarantine', '1s'];

/** Runs a command that has to be refused; its error as programs get it, checked for what people get. */
async function refusal(t: Test, host: LabHost, ...args: string[]): Promise<ErrorBody> {
  const shown = await host.tsnet(...args);
  t.equal(shown.status, 1, `tsnet ${args.join(' ')} is refused`);
  t.match(shown.stderr, /^error: .+\nhint: .+/, 'with an error and a hint');
  t.equal(shown.stdout, '');
  const body: unknown = JSON.parse((await host.tsnet(...args, '-o', 'json')).stderr);
  if (!isErrorBody(body)) throw new Error(`not an error body: ${JSON.stringify(body)}`);
  return body;
}

/** Turns the middle third of a file into noise, line ends included. */
function scribble(path: string): void {
  const bytes = readFileSync(path);
  const third = Math.floor(bytes.length / 3);
  bytes.fill(0xa5, third, 2 * third);
  writeFileSync(path, bytes);
}

t.test('while etcd is unreachable the controller says so, and what needs no store goes on', async (t) => {
  await withLab(t, { hosts: 1, etcd: 'separate' }, async (lab) => {
    const host = lab.host(1);
    await host.create({ name: 'net' });
    const [first, second] = [await lab.sandbox(), await lab.sandbox()];
    await host.attach('net', first);
    await lab.etcd?.kill();
    const body = await refusal(t, host, 'create', 'other');
    t.equal(body.code, 'ERR_STORE_UNREACHABLE');
    t.ok((await host.attach('net', second)).id, 'an attach needs neither controller nor store');
    await lab.startEtcd();
    await waitFor('the store to be reachable again', () => host.create({ name: 'other' }), 20_000);
  });
});

t.test('what is wrong on a host', (t) =>
  withSharedLab(
    t,
    { hosts: 2, agentArgs: soonIdle },
    {
      'bad input is refused with a typed error and a hint, and nothing half made remains': async (t, lab) => {
        const host = lab.host(1);
        const sandbox = await lab.sandbox();
        const target = sandbox.target;
        await host.json('create', 'taken', '--subnet', '10.80.0.0/24');
        await host.json(
          'create',
          'lost',
          '--driver',
          'macvlan',
          '--subnet',
          '198.19.2.0/24',
          '--opt',
          'parent=nowhere0',
        );
        const networks = await host.json('ls');
        const before = await host.snapshot();

        const cases: readonly (readonly [code: string, what: RegExp, ...args: string[]])[] = [
          ['ERR_INVALID_CIDR', /10\.1\.0\.0\/33/, 'create', 'net', '--subnet', '10.1.0.0/33'],
          ['ERR_INVALID_CIDR', /10\.1\.0\.5\/24/, 'create', 'net', '--subnet', '10.1.0.5/24'],
          ['ERR_INVALID_CIDR', /010\.1\.0\.0/, 'create', 'net', '--subnet', '010.1.0.0/24'],
          ['ERR_INVALID_NAME', /no such name/, 'create', 'no such name'],
          ['ERR_SUBNET_OVERLAP', /taken/, 'create', 'net', '--subnet', '10.80.0.128/25'],
          [
            'ERR_SUBNET_OVERLAP',
            /10\.81\.0\.0/,
            'create',
            'net',
            '--subnet',
            '10.81.0.0/16',
            '--subnet',
            '10.81.1.0/24',
          ],
          ['ERR_NETWORK_NAME_IN_USE', /taken/, 'create', 'taken'],
          ['ERR_INVALID_OPTION', /colour/, 'create', 'net', '--opt', 'colour=red'],
          ['ERR_INVALID_OPTION', /parent/, 'create', 'net', '--driver', 'macvlan', '--subnet', '198.19.3.0/24'],
          ['ERR_NETWORK_UNKNOWN', /nothing/, 'inspect', 'nothing'],
          ['ERR_NETWORK_UNKNOWN', /nothing/, 'rm', 'nothing'],
          ['ERR_NETWORK_UNKNOWN', /nothing/, 'connect', 'nothing', target],
          ['ERR_NETWORK_UNKNOWN', /nothing/, 'disconnect', 'nothing', target],
          ['ERR_MTU_UNDERLAY', /1500.*1450/, 'create', 'net', '--mtu', '1500'],
          ['ERR_INVALID_TARGET', /no process has the id 99999999/, 'connect', 'taken', 'pid:99999999'],
          ['ERR_ADDRESS_OUTSIDE_SUBNET', /10\.99\.0\.1/, 'connect', 'taken', target, '--ip', '10.99.0.1'],
          ['ERR_ADDRESS_RESERVED', /10\.80\.0\.255/, 'connect', 'taken', target, '--ip', '10.80.0.255'],
          ['ERR_INVALID_ADDRESS', /10\.80\.0\.300/, 'connect', 'taken', target, '--ip', '10.80.0.300'],
          ['ERR_INVALID_MAC', /zz/, 'connect', 'taken', target, '--mac', 'zz:00:00:00:00:01'],
          ['ERR_INVALID_IFNAME', /a\/b/, 'connect', 'taken', target, '--ifname', 'a/b'],
          ['ERR_IFNAME_IN_USE', /lo/, 'connect', 'taken', target, '--ifname', 'lo'],
          ['ERR_SANDBOX_MISSING', /no-such-sandbox/, 'connect', 'taken', 'netns:/run/netns/no-such-sandbox'],
          ['ERR_SANDBOX_MISSING', /4194303/, 'connect', 'taken', 'pid:4194303'],
          ['ERR_SANDBOX_IS_HOST', /./, 'connect', 'taken', `pid:${host.agent.pid}`],
          ['ERR_PARENT_UNKNOWN', /nowhere0/, 'connect', 'lost', target],
        ];
        for (const [code, what, ...args] of cases) {
          await t.test(`${code}: tsnet ${args.join(' ')}`, async (t) => {
            const body = await refusal(t, host, ...args);
            t.equal(body.code, code);
            t.match(body.message, what, 'the message names what is wrong');
          });
        }
        const astray = { name: 'net', subnets: [{ subnet: '10.82.0.0/24', gateway: '10.9.9.9' }] };
        await t.rejects(host.create(astray), { code: 'ERR_GATEWAY_OUTSIDE_SUBNET', message: /10\.9\.9\.9/ });
        t.equal((await host.tsnet('create')).status, 2, 'a missing argument is a usage error');
        t.equal((await host.tsnet('create', 'net', '--no-such-option')).status, 2, 'an unknown option too');
        t.same(await host.json('ls'), networks, 'no network has appeared');
        t.same(await host.json('endpoint', 'ls'), [], 'nor an endpoint');
        await settlesTo(t, () => host.snapshot(), before);
      },
      'a foreign VXLAN device with the network’s VNI is refused by name, and left alone': async (t, lab) => {
        const host = lab.host(1);
        const sandbox = await lab.sandbox();
        const { vni } = await host.create({ name: 'net' });
        const device = [
          'type',
          'vxlan',
          'id',
          String(vni),
          'dstport',
          '4789',
          'local',
          host.options.address,
          'nolearning',
        ];
        await host.exec('ip', 'link', 'add', 'foreign0', ...device);
        const before = await host.snapshot();
        const body = await refusal(t, host, 'connect', 'net', sandbox.target);
        t.equal(body.code, 'ERR_VNI_CONFLICT');
        t.match(body.message, /foreign0/);
        await settlesTo(t, () => host.snapshot(), before);
        await host.exec('ip', 'link', 'delete', 'foreign0');
        t.ok((await host.attach('net', sandbox)).id, 'once it is gone the attach succeeds');
      },
      'a damaged journal costs what it hit only, is kept aside, and is reported': async (t, lab) => {
        const [host, other] = [lab.host(1), lab.host(2)];
        await host.create({ name: 'net' });
        const [damaged, watcher] = [await lab.sandbox(), await lab.sandbox()];
        const endpoint = await host.attach('net', damaged, { name: 'web' });
        await other.attach('net', watcher);
        await host.published();
        await host.agent.kill();
        scribble(join(host.dataDir, 'journal'));
        await host.startAgent();
        const { warnings } = await host.status();
        t.match(
          warnings.map(({ code }) => code),
          ['ERR_JOURNAL_CORRUPT'],
        );
        t.ok(readdirSync(host.dataDir, { recursive: true, encoding: 'utf8' }).some((name) => name.includes('corrupt')));
        for (const address of endpoint.addresses) await reaches(watcher, address);
        const known = await waitFor('the endpoint to be known again', async () => {
          const endpoints = await host.api.call<EndpointView[]>('GET', '/v1/agent/endpoints');
          return endpoints.find(({ id }) => id === endpoint.id);
        });
        t.same(known.addresses, endpoint.addresses);
        t.same((await host.detach('net', damaged)).detached, [endpoint.id], 'and can be detached');
      },
    },
  ),
);
