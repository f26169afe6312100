import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { Lab } from '../lab/lab.js';
import { enterArgs, netnsPath } from '../lab/netns.js';
import { execIn, type Sandbox } from '../lab/sandbox.js';
import { waitFor } from '../lab/wait.js';
import { withLab, withSharedLab } from '../lab/with-lab.js';
import { killServer, startAsking } from './asking.js';

const dig = async (from: Sandbox, server: string, ...words: string[]): Promise<string> =>
  (await execIn(from, 'dig', '+tries=1', '+time=5', `@${server}`, ...words)).stdout;

const short = async (from: Sandbox, server: string, ...words: string[]): Promise<string> =>
  (await dig(from, server, '+short', ...words)).trim();

/** A program for a namespace: a name server over UDP that answers everything with one address, and counts. */
const upstreamProgram = `
const socket = require('node:dgram').createSocket('udp4');
let count = 0;
socket.on('message', (query, from) => {
  count += 1;
  const end = query.indexOf(0, 12) + 5;
  const answer = Buffer.concat([query.subarray(0, end), Buffer.from('c00c000100010000003c0004cb007107', 'hex')]);
  answer.writeUInt16BE(0x8180, 2);
  answer.writeUInt16BE(1, 6);
  answer.writeUInt32BE(0, 8);
  socket.send(answer, from.port, from.address);
  process.stdout.write(count + '\\n');
});
socket.bind(Number(process.argv[2]), process.argv[3], () => process.stdout.write('ready\\n'));
`;

let upstreams = 0;

/** Starts the upstream in a namespace of the lab; resolves when it has its port. What ends it. */
async function startUpstream(lab: Lab, port: number, address: string): Promise<() => Promise<void>> {
  const netns = 'h1';
  const file = join(lab.folder, `upstream-${port}.cjs`);
  writeFileSync(file, upstreamProgram);
  const daemon = lab.startDaemon({
    name: `upstream ${netns}`,
    logPath: lab.logPath(`upstream-${port}-${(upstreams += 1)}`),
    argv: [...enterArgs(netnsPath(`${lab.prefix}${netns}`)), process.execPath, file, String(port), address],
    env: {},
  });
  await waitFor('the upstream to be ready', () => daemon.log().includes('ready'));
  return () => daemon.kill();
}

const options = { hosts: 1, agentArgs: ['--dns-upstream', '127.0.0.1#9,127.0.0.1#5300'] };

t.test('names of a host that dies go, and are back with it; a store that is away changes nothing', async (t: Test) => {
  const lively = { hosts: 2, controllerArgs: ['--liveness', '2s'], agentArgs: options.agentArgs };
  await withLab(t, lively, async (lab) => {
    const [h1, h2] = [lab.host(1), lab.host(2)];
    const front = await h1.create({ name: 'front' });
    const gateway = front.subnets[0]?.gateway ?? '';
    const [here, there] = [await lab.sandbox(), await lab.sandbox()];
    await h1.attach('front', here, { name: 'here' });
    const { addresses } = await h2.attach('front', there, { name: 'there' });
    const asks = () => dig(here, gateway, 'there');
    const found = async () => (await short(here, gateway, 'there')) === addresses[0];
    await waitFor('the other host by name', found);
    await h2.cut();
    await waitFor('the dead host to leave', async () => /NXDOMAIN/.test(await asks()));
    t.match((await h1.tsnet('dns', 'query', 'there')).stdout, /host that is down/);
    await h2.mend();
    await waitFor('the host to be back', found, 20_000);
    await lab.controller().daemon.stop();
    t.ok(await found(), 'while no controller can be reached');
    await lab.controller().start();
    await h1.waitForAgent('the controller', ({ controller }) => controller !== null);
    t.ok(await found());
  });
});

t.test('names within and outside', (t) =>
  withSharedLab(
    t,
    { ...options, hosts: 2 },
    {
      'other names are forwarded, but not for internal networks; one bad upstream does no harm': async (t, lab) => {
        const h1 = lab.host(1);
        const endUpstream = await startUpstream(lab, 5300, '127.0.0.1');
        const open = await h1.create({ name: 'open' });
        const shut = await h1.create({ name: 'shut', internal: true });
        const [one, two] = [await lab.sandbox(), await lab.sandbox()];
        await h1.attach('open', one, { name: 'one' });
        await h1.attach('shut', two, { name: 'two' });
        const [gateway = '', closed = ''] = [open, shut].map(({ subnets }) => subnets[0]?.gateway ?? '');
        await waitFor(
          'the upstream to answer',
          async () => (await short(one, gateway, 'example.com')) === '203.0.113.7',
        );
        t.equal(await short(one, gateway, '+tcp', 'example.com'), '203.0.113.7', 'over TCP, from the cache');
        t.match(await dig(one, gateway, 'example.com'), /example\.com\.\s+(60|5\d)\s/, 'with the TTL that is left');
        t.match(await dig(one, gateway, '+noedns', 'EXAMPLE.com'), /EXAMPLE\.com\./, 'the letters of the question');
        t.match(await dig(two, closed, 'example.com'), /NXDOMAIN/, 'an internal network');
        t.ok(await short(two, closed, 'two'), 'which has its own names');
        t.match(await dig(one, gateway, 'example.com', 'CH'), /REFUSED/, 'another class');
        t.match(await dig(one, gateway, '+edns=1', '+noednsneg', 'one'), /BADVERS/);
        await endUpstream();
      },
      'a host whose own resolver has port 53 is no obstacle': async (t, lab) => {
        const h1 = lab.host(1);
        const endUpstream = await startUpstream(lab, 53, '0.0.0.0');
        const place: Sandbox = { name: 'h1', target: '', enter: enterArgs(netnsPath(h1.netns)) };
        await waitFor(
          'the resolver of the host',
          async () => (await short(place, '127.0.0.1', 'x.y')) === '203.0.113.7',
        );
        const front = await h1.create({ name: 'front', ipv6: true });
        const sandbox = await lab.sandbox();
        const { addresses } = await h1.attach('front', sandbox, { name: 'web' });
        for (const { gateway } of front.subnets) {
          await waitFor('our answer', async () => (await short(sandbox, gateway ?? '', 'web')) === addresses[0]);
          t.equal(await short(sandbox, gateway ?? '', '+tcp', 'web'), addresses[0]);
        }
        t.equal(await short(place, '127.0.0.1', 'x.y'), '203.0.113.7', 'the other one still answers the host');
        const asking = startAsking(sandbox, front.subnets[0]?.gateway ?? '', {
          folder: lab.folder,
          name: 'web',
          address: addresses[0] ?? '',
        });
        for (let kill = 0; kill < 2; kill += 1) {
          const isOther = await killServer(h1);
          await waitFor('the next name server', isOther, 30_000);
          for (const { gateway } of front.subnets)
            t.equal(await short(sandbox, gateway ?? '', '+tcp', 'web'), addresses[0], 'ours again, not the other one');
        }
        const { asked, answered, wrong, refused } = await asking.end();
        t.equal(answered, asked);
        t.same(
          { wrong, refused },
          { wrong: 0, refused: 0 },
          'a name server that is killed leaves none to the other one',
        );
        await endUpstream();
      },
      'a macvlan sandbox asks inside, by a socket that goes with it': async (t, lab) => {
        const h1 = lab.host(1);
        const endUpstream = await startUpstream(lab, 5300, '127.0.0.1');
        await h1.create({
          name: 'lan',
          driver: 'macvlan',
          subnets: [{ subnet: '198.18.64.0/24' }],
          options: { parent: 'eth0' },
        });
        const [one, two] = [await lab.process(), await lab.process()];
        await h1.attach('lan', one, { name: 'one' });
        const { addresses } = await h1.attach('lan', two, { name: 'two' });
        const inside = '127.0.0.153';
        await waitFor('the name inside', async () => (await short(one, inside, 'two')) === addresses[0]);
        t.equal(await short(one, inside, '+tcp', 'two.lan'), addresses[0]);
        await waitFor('the host to forward', async () => (await short(one, inside, 'example.net')) === '203.0.113.7');
        await two.daemon.stop();
        await waitFor(
          'the name to go with its sandbox',
          async () => /NXDOMAIN/.test(await dig(one, inside, 'two')),
          20_000,
        );
        t.same((await h1.status()).warnings, []);
        await endUpstream();
      },
      'programs find names through tsnet run, as getaddrinfo asks for them': async (t, lab) => {
        const [h1, h2] = [lab.host(1), lab.host(2)];
        await h1.create({ name: 'frontend', ipv6: true });
        await h1.create({ name: 'app' });
        const web = await lab.sandbox();
        const { addresses } = await h1.attach('frontend', web, { name: 'web' });
        const my = await lab.sandbox();
        const { addresses: myAddresses } = await h1.attach('app', my, { name: 'myapp' });
        const run = (...command: string[]) =>
          h2.tsnet('run', '--network', 'app', '--network', 'frontend', '--', ...command);
        const ask = async (database: string, name: string): Promise<string> =>
          (await run('getent', database, name)).stdout.split(/\s/, 1)[0] ?? '';
        await waitFor('web by getaddrinfo', async () => (await ask('ahostsv4', 'web')) === addresses[0]);
        t.equal(await ask('ahostsv6', 'web'), addresses[1]);
        t.equal(await ask('ahostsv4', 'myapp.app'), myAddresses[0]);
        t.equal(await ask('ahostsv4', 'web.frontend.tsnet.internal'), addresses[0]);
        t.match(
          (await run('cat', '/etc/resolv.conf')).stdout,
          /nameserver 10\.[\s\S]*search app\.tsnet\.internal frontend\.tsnet\.internal/,
        );
        const query = await h1.tsnet('dns', 'query', 'web', '--from', 'web');
        t.match(query.stdout, new RegExp(`^NOERROR: found[\\s\\S]*${addresses[0]}.*h1`));
        t.match((await h1.tsnet('dns', 'ls')).stdout, /web\.frontend\.tsnet\.internal/);
      },
      'a restart of the agent loses no query, and a killed agent none either': async (t, lab) => {
        const h1 = lab.host(1);
        const front = await h1.create({ name: 'front' });
        const gateway = front.subnets[0]?.gateway ?? '';
        const sandbox = await lab.sandbox();
        const { addresses } = await h1.attach('front', sandbox, { name: 'web' });
        await waitFor('web to resolve', async () => (await short(sandbox, gateway, 'web')) === addresses[0]);
        const asking = startAsking(sandbox, gateway, { folder: lab.folder, name: 'web' });
        await h1.agent.stop();
        t.equal(await short(sandbox, gateway, 'web'), addresses[0], 'while the agent is away');
        await h1.startAgent();
        await h1.agent.kill();
        await h1.startAgent();
        const other = await lab.sandbox();
        const { addresses: later } = await h1.attach('front', other, { name: 'later' });
        await waitFor(
          'a name made after the restart',
          async () => (await short(sandbox, gateway, 'later')) === later[0],
        );
        const { asked, answered, again } = await asking.end();
        t.ok(asked > 50);
        t.equal(answered, asked, `every query was answered, ${again} after one retry`);
      },
    },
  ),
);
