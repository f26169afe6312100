import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { Lab } from '../lab/lab.js';
import { plain } from '../lab/plain.js';
import { execIn, type Sandbox } from '../lab/sandbox.js';
import { waitFor } from '../lab/wait.js';
import { withSharedLab } from '../lab/with-lab.js';
import { nameServers, startAsking } from './asking.js';

const dig = async (from: Sandbox, server: string, ...words: string[]): Promise<string> =>
  (await execIn(from, 'dig', '+tries=2', '+time=5', `@${server}`, ...words)).stdout;

const lines = async (from: Sandbox, server: string, ...words: string[]): Promise<string[]> =>
  (await dig(from, server, '+short', ...words)).split('\n').filter((line) => line !== '' && !line.startsWith(';'));

const soon = (what: string, ask: () => Promise<boolean>): Promise<unknown> => waitFor(what, ask, 30_000);

/** A web server inside a sandbox that says one word at /who, on both families. */
function serve(t: Test, lab: Lab, { in: sandbox, says }: { readonly in: Sandbox; readonly says: string }): void {
  const folder = join(lab.folder, `www-${says}`);
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'who'), says);
  const child = spawn(...plain([...sandbox.enter, 'busybox', 'httpd', '-f', '-p', '[::]:80', '-h', folder]));
  t.teardown(async () => {
    child.kill('SIGKILL');
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  });
}

t.test('who asks, and how', (t) =>
  withSharedLab(
    t,
    { hosts: 2, agentArgs: ['--dns-upstream', '127.0.0.1#9'] },
    {
      'a program on two networks opens a page of each by name, from another host': async (t, lab) => {
        const [h1, h2] = [lab.host(1), lab.host(2)];
        await h1.create({ name: 'frontend', ipv6: true });
        await h1.create({ name: 'app', ipv6: true });
        const [web, myapp] = [await lab.sandbox(), await lab.sandbox()];
        await h1.attach('frontend', web, { name: 'web' });
        await h1.attach('app', myapp, { name: 'myapp' });
        serve(t, lab, { in: web, says: 'web' });
        serve(t, lab, { in: myapp, says: 'myapp' });
        await h1.published();
        const fetch = async (networks: readonly string[], ...words: string[]): Promise<string> => {
          const on = networks.flatMap((network) => ['--network', network]);
          return (await h2.tsnet('run', ...on, '--', 'curl', '-s', '-m', '5', ...words)).stdout;
        };
        const both = ['frontend', 'app'];
        for (const family of ['-4', '-6']) {
          await soon(`web by ${family}`, async () => (await fetch(both, family, 'http://web/who')) === 'web');
          await soon(`myapp by ${family}`, async () => (await fetch(both, family, 'http://myapp.app/who')) === 'myapp');
        }
        t.equal(await fetch(['frontend'], 'http://web/who'), 'web');
        t.equal(await fetch(['frontend'], 'http://myapp.app/who'), '', 'not from one that is not on app');
        t.equal(await fetch(['app'], 'http://web/who'), '');
        t.equal(await fetch(['app'], 'http://myapp/who'), 'myapp', 'nor needs it there a network’s name');
      },
      'a network of IPv6 alone has its name server, names and their absence': async (t, lab) => {
        const [h1, h2] = [lab.host(1), lab.host(2)];
        const { subnets } = await h1.create({ name: 'six', subnets: [{ subnet: 'fd12:3456::/64' }] });
        const server = subnets[0]?.gateway ?? '';
        const [web, client] = [await lab.sandbox(), await lab.sandbox()];
        const { addresses } = await h1.attach('six', web, { name: 'web' });
        await h2.attach('six', client, { name: 'client' });
        const [address = ''] = addresses;
        serve(t, lab, { in: web, says: 'six' });
        await soon('web', async () => (await lines(client, server, 'web', 'AAAA')).join() === address);
        t.same(await lines(client, server, '+tcp', 'web.six', 'AAAA'), [address]);
        t.same(await lines(client, server, '-x', address), ['web.six.tsnet.internal.']);
        t.match(await dig(client, server, 'web', 'A'), /status: NOERROR[\s\S]*ANSWER: 0[\s\S]*SOA/, 'no IPv4: NODATA');
        t.match(await dig(client, server, 'nobody', 'AAAA'), /status: NXDOMAIN/);
        const run = (...words: string[]) => h2.tsnet('run', '--network', 'six', '--', ...words);
        t.match((await run('cat', '/etc/resolv.conf')).stdout, `nameserver ${server}\n`);
        t.match((await run('getent', 'ahosts', 'web')).stdout, address, 'getaddrinfo');
        t.equal((await run('curl', '-s', '-m', '5', 'http://web/who')).stdout, 'six');
      },
      'several endpoints of one name take turns, for 5 s at most; published ports are found': async (t, lab) => {
        const [h1, h2] = [lab.host(1), lab.host(2)];
        const { subnets } = await h1.create({ name: 'front' });
        const server = subnets[0]?.gateway ?? '';
        const all: string[] = [];
        for (const host of [h1, h2, h1]) {
          const ports = all.length === 0 ? [{ hostPort: 8080, port: 80, protocol: 'tcp' as const }] : [];
          const { addresses } = await host.attach('front', await lab.sandbox(), { name: 'web', ports });
          all.push(...addresses);
        }
        const client = await lab.sandbox();
        await h2.attach('front', client);
        await soon('all three', async () => (await lines(client, server, 'web')).length === 3);
        const firsts = new Set<string>();
        for (let round = 0; round < 24; round++) {
          const found = await lines(client, server, 'web');
          t.same([...found].sort(), [...all].sort());
          firsts.add(found[0] ?? '');
        }
        t.same([...firsts].sort(), [...all].sort(), 'each was first');
        const ttls = [...(await dig(client, server, 'web')).matchAll(/^web\.\s+(\d+)\s+IN\s+A/gm)].map(([, ttl]) =>
          Number(ttl),
        );
        t.ok(ttls.length === 3 && ttls.every((ttl) => ttl <= 5), `kept for ${ttls.join()} s`);
        t.match(
          await dig(client, server, 'web', 'AAAA'),
          /status: NOERROR[\s\S]*ANSWER: 0[\s\S]*SOA/,
          'no IPv6: NODATA',
        );
        const [record = ''] = await lines(client, server, '_80._tcp.web', 'SRV');
        const [, target = ''] = /^0 0 80 (.+)\.$/.exec(record) ?? [];
        t.same(await lines(client, server, target), [all[0]], 'the one that publishes it');
      },
      'a sandbox is meant by any of its names, however it was connected': async (t, lab) => {
        const h1 = lab.host(1);
        for (const network of ['front', 'back']) await h1.create({ name: network });
        const [one, other, web] = [await lab.sandbox(), await lab.process(), await lab.sandbox()];
        const { id } = await h1.attach('front', one, { name: 'client', id: 'caller-1' });
        await h1.attach('back', other, { name: 'stranger' });
        const { addresses } = await h1.attach('front', web, { name: 'web' });
        const netns = one.target.replace('netns:/run/netns/', '');
        const child = spawn(...plain([...one.enter, 'sleep', '1000000']));
        t.teardown(() => child.kill('SIGKILL'));
        await once(child, 'spawn');
        const query = (from: string) => h1.tsnet('dns', 'query', 'web', '--from', from);
        await soon('web', async () => (await query('client')).status === 0);
        for (const from of [netns, one.target, 'client', 'caller-1', id])
          t.match(await query(from), { status: 0, stdout: addresses[0] }, from);
        await soon('by a process in it', async () => (await query(`pid:${child.pid ?? 0}`)).status === 0);
        t.match(await query(other.target), { status: 3, stdout: /^NXDOMAIN/ }, 'who is on another network');
        t.match(await query(`netns:/proc/${other.daemon.pid}/ns/net`), { status: 3 }, 'by another word for the same');
        const settings = (await h1.tsnet('dns', 'resolv-conf', 'client')).stdout;
        t.match(settings, /^search front\.tsnet\.internal/m);
        t.equal((await h1.tsnet('dns', 'resolv-conf', netns)).stdout, settings);
        t.match((await h1.tsnet('inspect', netns, '-o', 'json')).stdout, id);
        const empty = await lab.sandbox();
        for (const [from, stderr] of [
          ['nobody', /no endpoint of this host is nobody/],
          [empty.target, /no endpoint of this host is in netns:/],
          ['netns:/run/netns/tsnet-no-such', /no such process or namespace/],
          ['netns:/etc/passwd', /no endpoint of this host is in netns:/],
          ['/run/netns/x', /Write netns:\/run\/netns\/x/],
        ] as const)
          t.match(await query(from), { status: 1, stderr }, from);
      },
      'a name server that is killed is started again, and knows everything': async (t, lab) => {
        const h1 = lab.host(1);
        const { subnets } = await h1.create({ name: 'front', ipv6: true });
        const lan = {
          driver: 'macvlan',
          subnets: [{ subnet: '198.18.64.0/24' }],
          options: { parent: 'eth0' },
        } as const;
        await h1.create({ name: 'lan', ...lan });
        const [web, inside] = [await lab.sandbox(), await lab.process()];
        const { addresses } = await h1.attach('front', web, { name: 'web' });
        const { addresses: insideAddresses } = await h1.attach('lan', inside, { name: 'inside' });
        const places = [
          ...subnets.map(({ gateway }) => [web, gateway ?? '', 'web', addresses[0]] as const),
          [inside, '127.0.0.153', 'inside', insideAddresses[0]] as const,
        ];
        const isAnswered = async (): Promise<boolean> => {
          for (const [from, server, name, address] of places)
            if ((await lines(from, server, name, 'A')).join() !== address) return false;
          return true;
        };
        const pid = async (): Promise<number> => Number((await nameServers(h1)).pids[0] ?? 0);
        await soon('all to be answered', isAnswered);
        const before = await pid();
        process.kill(before, 'SIGKILL');
        await soon('all to be answered again', isAnswered);
        t.not(await pid(), before, 'by another process');
        const asking = startAsking(web, subnets[0]?.gateway ?? '', { folder: lab.folder, name: 'web' });
        const late = await h1.attach('front', await lab.sandbox(), { name: 'late' });
        await soon('a name made since', async () => {
          const found = await lines(web, subnets[0]?.gateway ?? '', 'late', 'A');
          return found.join() === late.addresses[0];
        });
        const { asked, answered } = await asking.end();
        t.equal(answered, asked);
      },
      'a network that goes takes its name server and its sockets along': async (t, lab) => {
        const h1 = lab.host(1);
        const sockets = async (): Promise<string[]> =>
          (await h1.exec('ss', '-Htuln', 'sport = :53')).stdout.split('\n').filter((line) => line !== '');
        const lan = {
          driver: 'macvlan',
          subnets: [{ subnet: '198.18.64.0/24' }],
          options: { parent: 'eth0' },
        } as const;
        await h1.create({ name: 'front', ipv6: true });
        await h1.create({ name: 'lan', ...lan });
        const inside = await lab.process();
        const web = await lab.sandbox();
        await h1.attach('front', web, { name: 'web' });
        await h1.attach('lan', inside, { name: 'inside' });
        const insideSockets = async (): Promise<number> =>
          (await execIn(inside, 'ss', '-Htuln', 'sport = :53')).stdout.split('\n').filter((line) => line !== '').length;
        await soon('a socket of each kind and family', async () => (await sockets()).length === 4);
        await soon('two inside', async () => (await insideSockets()) === 2);
        await h1.detach('lan', inside);
        await soon('none inside', async () => (await insideSockets()) === 0);
        await h1.detach('front', web);
        await lab.clear();
        await soon('none on the host', async () => (await sockets()).length === 0);
        t.same((await h1.tsnet('dns', 'ls', '-q')).stdout, '', 'and no name is left');
      },
    },
  ),
);
