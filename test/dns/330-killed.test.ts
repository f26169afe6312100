import { existsSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { execIn, type Sandbox } from '../lab/sandbox.js';
import { waitFor } from '../lab/wait.js';
import { withLab } from '../lab/with-lab.js';
import { killServer, nameServers, startAsking } from './asking.js';

const short = async (from: Sandbox, server: string, ...words: string[]): Promise<string> =>
  (await execIn(from, 'dig', '+short', '+tries=2', '+time=5', `@${server}`, ...words)).stdout.trim();

function isHeldBy(inodes: readonly string[], process: string): boolean {
  try {
    return readdirSync(`/proc/${process}/fd`).some((fd) => {
      const [, inode] = /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${process}/fd/${fd}`)) ?? [];
      return inode !== undefined && inodes.includes(inode);
    });
  } catch {
    // It has ended, or the descriptor was closed.
    return false;
  }
}

const holdersOf = (inodes: readonly string[]): string[] =>
  readdirSync('/proc').filter((each) => /^\d+$/.test(each) && isHeldBy(inodes, each));

/** Looks names up by getaddrinfo, one after the other, until a file is there. */
const lookUps = `while [ ! -e "$1" ]; do getent ahostsv4 "$2" > /dev/null && echo found || echo failed; sleep 0.01; done`;

t.test(
  'a name server that is killed costs no query more than a retry, and no sandbox lives on by it',
  async (t: Test) => {
    await withLab(t, { hosts: 1, agentArgs: ['--dns-upstream', '127.0.0.1#9'] }, async (lab) => {
      const h1 = lab.host(1);
      const { subnets } = await h1.create({ name: 'front', ipv6: true });
      const [gateway = '', gateway6 = ''] = subnets.map((subnet) => subnet.gateway ?? '');
      const lan = { driver: 'macvlan', subnets: [{ subnet: '198.18.64.0/24' }], options: { parent: 'eth0' } } as const;
      await h1.create({ name: 'lan', ...lan });
      const [web, inside] = [await lab.sandbox(), await lab.process()];
      const { addresses } = await h1.attach('front', web, { name: 'web' });
      const { addresses: insideAddresses } = await h1.attach('lan', inside, { name: 'inside' });
      const within = '127.0.0.153';
      await waitFor('web to resolve', async () => (await short(web, gateway, 'web')) === addresses[0], 20_000);
      const isInside = async (): Promise<boolean> => (await short(inside, within, 'inside')) === insideAddresses[0];
      await waitFor('the name inside', isInside, 20_000);
      const before = await nameServers(h1);
      t.equal(before.sockets.length, 4, 'for UDP and TCP, of both families');
      const listed = (await execIn(inside, 'ss', '-Htulne', 'sport = :53')).stdout;
      const insideSockets = [...listed.matchAll(/ino:(\d+)/g)].map(([, inode = '']) => inode);
      t.equal(insideSockets.length, 2);
      await waitFor(
        'the agent to hold the sockets as well',
        () => holdersOf(insideSockets).includes(String(h1.agent.pid)) && holdersOf(before.sockets).length === 2,
        20_000,
      );

      const asking = [
        startAsking(web, gateway, { folder: lab.folder, name: 'web' }),
        startAsking(inside, within, { folder: lab.folder, name: 'inside' }),
      ];
      const [stop, output] = [join(lab.folder, 'stop'), join(lab.folder, 'look-ups')];
      const looking = h1.tsnet(
        'run',
        '--network',
        'front',
        '--',
        'sh',
        '-c',
        `{ ${lookUps}; } > "$3"`,
        '-',
        stop,
        'web',
        output,
      );
      const found = (): number => (existsSync(output) ? readFileSync(output, 'utf8').split('found').length - 1 : 0);
      await waitFor('getaddrinfo to find it', () => found() > 3, 20_000);
      for (let kill = 0; kill < 3; kill += 1) {
        const counted = found();
        await waitFor('another process to have the sockets', await killServer(h1), 30_000);
        t.equal(await short(web, gateway6, 'web', 'A'), addresses[0], 'by the other family');
        t.equal(await short(web, gateway, '+tcp', 'web', 'A'), addresses[0], 'by TCP');
        t.ok(await isInside(), 'inside of a sandbox');
        const name = `later-${kill}`;
        const made = await h1.attach('front', await lab.sandbox(), { name });
        await waitFor('a name made since', async () => (await short(web, gateway, name)) === made.addresses[0], 20_000);
        await waitFor('getaddrinfo to go on', () => found() > counted + 3, 20_000);
      }
      writeFileSync(stop, '');
      await looking;
      t.notMatch(readFileSync(output, 'utf8'), 'failed', 'getaddrinfo never failed');
      for (const each of asking) {
        const { asked, answered, again, refused } = await each.end();
        t.ok(asked > 100);
        t.equal(answered, asked, `every query was answered, ${again} after one retry`);
        t.equal(refused, 0);
      }
      t.same((await nameServers(h1)).sockets, before.sockets, 'the sockets are the same');

      const [pid = ''] = (await nameServers(h1)).pids;
      process.kill(Number(pid), 'SIGKILL');
      await inside.daemon.kill();
      await waitFor('nobody to hold what was inside', () => holdersOf(insideSockets).length === 0, 30_000);
      await waitFor('the next one', async () => (await short(web, gateway, 'web')) === addresses[0], 20_000);
    });
  },
);
