import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { version } from '../../core/version.js';
import { execIn, type Sandbox } from '../lab/sandbox.js';
import { waitFor } from '../lab/wait.js';
import { withLab } from '../lab/with-lab.js';
import { nameServers, startAsking } from './asking.js';

const build = fileURLToPath(new URL('../../../', import.meta.url));

/** A tsnet whose agent and name server say that they are of another version. */
function newVersion(folder: string, other: string): string {
  mkdirSync(folder);
  for (const part of ['bin', 'lib']) {
    // Compiled code belongs to the file as it was.
    const filter = (path: string): boolean => !path.endsWith('.cache');
    cpSync(join(build, part), join(folder, part), { recursive: true, filter });
  }
  for (const part of ['native', 'libexec']) symlinkSync(join(build, part), join(folder, part));
  for (const name of readdirSync(join(folder, 'lib')).filter((each) => /^(agent|dns)-/.test(each))) {
    const file = join(folder, 'lib', name);
    const text = readFileSync(file, 'utf8');
    const changed = text.replaceAll(`"${version}"`, `"${other}"`);
    if (changed === text) throw new Error(`${file} names no version`);
    writeFileSync(file, changed);
  }
  return join(folder, 'bin', 'tsnet');
}

const short = async (from: Sandbox, server: string, name: string): Promise<string> =>
  (await execIn(from, 'dig', '+short', '+tries=2', '+time=5', `@${server}`, name)).stdout.trim();

/** A process's nice value, and that of its session where the kernel shares out the processor by sessions. */
function precedenceOf(pid: string): readonly (string | undefined)[] {
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  const own = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[16];
  const path = `/proc/${pid}/autogroup`;
  return existsSync(path) ? [own, /nice (-?\d+)/.exec(readFileSync(path, 'latin1'))?.[1]] : [own];
}

t.test('a name server of another version goes on with the same sockets, and no query fails', async (t: Test) => {
  await withLab(t, { hosts: 1, agentArgs: ['--dns-upstream', '127.0.0.1#9'] }, async (lab) => {
    const h1 = lab.host(1);
    const tsnet = newVersion(join(lab.folder, 'other'), '99.1.2');
    const { subnets } = await h1.create({ name: 'front' });
    const gateway = subnets[0]?.gateway ?? '';
    const lan = { driver: 'macvlan', subnets: [{ subnet: '198.18.64.0/24' }], options: { parent: 'eth0' } } as const;
    await h1.create({ name: 'lan', ...lan });
    const [web, inside] = [await lab.sandbox(), await lab.process()];
    const { addresses } = await h1.attach('front', web, { name: 'web' });
    const { addresses: insideAddresses } = await h1.attach('lan', inside, { name: 'inside' });
    await waitFor('web to resolve', async () => (await short(web, gateway, 'web')) === addresses[0], 20_000);
    const within = '127.0.0.153';
    const isInside = async () => (await short(inside, within, 'inside')) === insideAddresses[0];
    await waitFor('the name inside', isInside, 20_000);
    const before = await nameServers(h1);
    const asking = [
      startAsking(web, gateway, { folder: lab.folder, name: 'web' }),
      startAsking(inside, within, { folder: lab.folder, name: 'inside' }),
    ];
    for (const start of [{ tsnet }, {}]) {
      const { pids } = await nameServers(h1);
      await h1.agent.stop();
      await h1.startAgent(start);
      await waitFor(
        'another process alone to hold the sockets',
        async () => {
          const now = await nameServers(h1);
          return now.pids.length === 1 && now.pids[0] !== pids[0];
        },
        30_000,
      );
      const [pid = ''] = (await nameServers(h1)).pids;
      t.ok(
        precedenceOf(pid).every((nice) => nice === '-7'),
        `process and session go first: ${precedenceOf(pid).join()}`,
      );
      const later = await lab.sandbox();
      const name = `later-${later.name}`;
      const made = await h1.attach('front', later, { name });
      await waitFor('a name made since', async () => (await short(web, gateway, name)) === made.addresses[0], 20_000);
      t.ok(await isInside(), 'inside of a sandbox as well');
    }
    t.same((await nameServers(h1)).sockets, before.sockets, 'the sockets are the same');
    for (const each of asking) {
      const { asked, answered, again } = await each.end();
      t.ok(asked > 100);
      t.equal(answered, asked, `every query was answered, ${again} after one retry`);
    }
  });
});
