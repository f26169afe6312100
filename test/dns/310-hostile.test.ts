import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { Lab } from '../lab/lab.js';
import { enterArgs, netnsPath } from '../lab/netns.js';
import { plain } from '../lab/plain.js';
import { execIn, mustExecIn, type Sandbox } from '../lab/sandbox.js';
import { waitFor } from '../lab/wait.js';
import { withSharedLab } from '../lab/with-lab.js';
import { nameServers, startAsking } from './asking.js';

const options = { hosts: 1, agentArgs: ['--dns-upstream', '127.0.0.1#5300'] };

const short = async (from: Sandbox, server: string, ...words: string[]): Promise<string> =>
  (await execIn(from, 'dig', '+short', '+tries=2', '+time=3', `@${server}`, ...words)).stdout.trim();

/** Sends to port 53 until it is ended: whole queries as fast as it can, or random bytes that look like some. */
const hostileProgram = `
const socket = require('node:dgram').createSocket('udp4');
const { randomBytes, randomInt } = require('node:crypto');
const [, , server, kind] = process.argv;
const query = Buffer.from('0001010000010000000000000377656200'+'00010001', 'hex');
const next = () => {
  if (kind === 'flood') return query;
  const bytes = kind === 'random' ? randomBytes(randomInt(1, 600)) : Buffer.concat([query, randomBytes(randomInt(0, 40))]);
  for (let left = 4; kind === 'changed' && left > 0; left -= 1) bytes[randomInt(bytes.length)] = randomInt(256);
  return bytes;
};
let sent = 0;
let done = false;
const go = () => {
  if (done) return;
  for (let left = 200; left > 0; left -= 1) { socket.send(next(), 53, server, () => undefined); sent += 1; }
  setImmediate(go);
};
socket.on('error', () => undefined);
go();
process.stdin.on('end', () => { done = true; process.stdout.write(String(sent)); setTimeout(() => process.exit(), 50); }).resume();
`;

function startHostile(lab: Lab, from: Sandbox, [server, kind]: readonly [string, string]): { end(): Promise<number> } {
  const file = join(lab.folder, 'hostile.cjs');
  writeFileSync(file, hostileProgram);
  const child = spawn(...plain([...from.enter, process.execPath, file, server, kind]), {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  let output = '';
  child.stdout.setEncoding('utf8').on('data', (part: string) => (output += part));
  const ended = new Promise((resolve) => child.once('close', resolve));
  return {
    end: async () => {
      child.stdin.end();
      await ended;
      return Number(output);
    },
  };
}

const pidOfServer = async (lab: Lab): Promise<string> => (await nameServers(lab.host(1))).pids[0] ?? '';

/** A name server over UDP that answers everything with one address. */
const upstreamProgram = `
const socket = require('node:dgram').createSocket('udp4');
const [, , port, address] = process.argv;
socket.on('message', (query, from) => {
  const end = query.indexOf(0, 12) + 5;
  const record = Buffer.from('c00c000100010000003c0004', 'hex');
  const answer = Buffer.concat([query.subarray(0, end), record, Buffer.from(address.split('.').map(Number))]);
  answer.writeUInt16BE(0x8180, 2);
  answer.writeUInt16BE(1, 6);
  answer.writeUInt32BE(0, 8);
  socket.send(answer, from.port, from.address);
});
socket.bind(Number(port), '127.0.0.1', () => process.stdout.write('ready\\n'));
`;

t.test('names on one host', (t) =>
  withSharedLab(t, options, {
    'a flood from one sandbox costs that sandbox, and random packets stop nothing': async (t, lab) => {
      const h1 = lab.host(1);
      const { subnets } = await h1.create({ name: 'front' });
      const gateway = subnets[0]?.gateway ?? '';
      const [web, hostile] = [await lab.sandbox(), await lab.sandbox()];
      const { addresses } = await h1.attach('front', web, { name: 'web' });
      await h1.attach('front', hostile, { name: 'hostile' });
      await waitFor('web to resolve', async () => (await short(web, gateway, 'web')) === addresses[0]);
      const pid = await pidOfServer(lab);
      t.ok(pid !== '', 'the process of the name server is known');
      for (const kind of ['random', 'changed', 'flood']) {
        const attack = startHostile(lab, hostile, [gateway, kind]);
        const asking = startAsking(web, gateway, { folder: lab.folder, name: 'web' });
        for (let count = 0; count < 10; count += 1) t.equal(await short(web, gateway, 'web'), addresses[0]);
        const { asked, answered, again } = await asking.end();
        const sent = await attack.end();
        t.ok(sent > 1000, `${kind}: ${sent} packets`);
        t.equal(answered, asked, `${kind}: another sandbox had all answers, ${again} after one retry`);
      }
      t.equal(await pidOfServer(lab), pid, 'it is the same process still');
      t.equal(await short(hostile, gateway, 'web'), addresses[0], 'and answers also who attacked');
    },
    "a network's own upstream is asked instead of the host's": async (t, lab) => {
      const h1 = lab.host(1);
      const file = join(lab.folder, 'upstream.cjs');
      writeFileSync(file, upstreamProgram);
      const upstreams = [
        ['5300', '203.0.113.7'],
        ['5301', '203.0.113.8'],
      ] as const;
      for (const upstream of upstreams) {
        const daemon = lab.startDaemon({
          name: `upstream ${upstream[0]}`,
          logPath: lab.logPath(`upstream-${upstream[0]}`),
          argv: [...enterArgs(netnsPath(h1.netns)), process.execPath, file, ...upstream],
          env: {},
        });
        await waitFor('the upstream to be ready', () => daemon.log().includes('ready'));
      }
      const [own, others] = [
        await h1.create({ name: 'own', options: { dns: '127.0.0.1#5301' } }),
        await h1.create({ name: 'others' }),
      ];
      const [one, two] = [await lab.sandbox(), await lab.sandbox()];
      await h1.attach('own', one);
      await h1.attach('others', two);
      const ask = (from: Sandbox, { subnets }: typeof own) => short(from, subnets[0]?.gateway ?? '', 'example.com');
      await waitFor("the network's own", async () => (await ask(one, own)) === '203.0.113.8', 20_000);
      await waitFor("the host's", async () => (await ask(two, others)) === '203.0.113.7', 20_000);
      t.equal(await ask(one, own), '203.0.113.8', 'neither answers from what the other one was told');
      t.equal(await ask(two, others), '203.0.113.7');
    },
    'programs of other libraries than dig get the records, both families': async (t, lab) => {
      const h1 = lab.host(1);
      const { subnets } = await h1.create({ name: 'front', ipv6: true });
      const [web, client] = [await lab.sandbox(), await lab.sandbox()];
      const labels = { 'tsnet.port/http': '8080', tier: 'front' };
      const { addresses, id } = await h1.attach('front', web, { name: 'web', labels });
      await h1.attach('front', client);
      const [v4 = '', v6 = ''] = addresses;
      for (const { gateway } of subnets) {
        const server = gateway ?? '';
        await waitFor(`web by ${server}`, async () => (await short(client, server, 'web')) === v4, 20_000);
        const host = (...words: string[]) => mustExecIn(client, 'host', '-W', '3', ...words, server);
        t.match(await host('-t', 'A', 'web'), `has address ${v4}`);
        t.match(await host('-t', 'AAAA', 'web.front'), `has IPv6 address ${v6}`);
        t.match(await host(v4), /web\.front\.tsnet\.internal/, 'PTR');
        t.match(await host(v6), /web\.front\.tsnet\.internal/, 'PTR of IPv6');
        t.match(await host('-t', 'SRV', '_http._tcp.web'), new RegExp(`0 0 8080 ${id}\\.front\\.tsnet\\.internal`));
        t.match(await host('-t', 'TXT', 'web'), /"tier=front"/);
        t.match(await host('-t', 'SOA', 'tsnet.internal'), /SOA record ns\.tsnet\.internal/);
        t.match(await host('-t', 'NS', 'tsnet.internal'), /name server ns\.tsnet\.internal/);
        t.match(await mustExecIn(client, 'busybox', 'nslookup', 'web.front.tsnet.internal', server), v4);
      }
      const getaddrinfo = async (database: string): Promise<string> =>
        (await h1.tsnet('run', '--network', 'front', '--', 'getent', database, 'web.front')).stdout;
      t.match(await getaddrinfo('ahostsv4'), v4);
      t.match(await getaddrinfo('ahostsv6'), v6);
      const reverse = (await h1.tsnet('run', '--network', 'front', '--', 'getent', 'hosts', v4)).stdout;
      t.match(reverse, /web\.front\.tsnet\.internal/, 'getnameinfo');
    },
  }),
);
