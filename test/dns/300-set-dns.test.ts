import { execFileSync, spawn } from 'node:child_process';
import { existsSync, readFileSync, readlinkSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { EndpointView } from '../../core/api/endpoint.js';
import type { LabHost } from '../lab/host.js';
import { waitFor } from '../lab/wait.js';
import { withSharedLab } from '../lab/with-lab.js';
import { before, resolvConf, startContainer, writeBelow } from './container.js';

const options = { hosts: 1, agentArgs: ['--dns-upstream', '127.0.0.1#9'] };

const endpoints = (h1: LabHost): Promise<EndpointView[]> => h1.api.call('GET', '/v1/agent/endpoints');

/** Connects by the CLI; what it says on standard error. */
async function connect(h1: LabHost, network: string, target: string, ...more: string[]): Promise<string> {
  const { status, stderr } = await h1.tsnet('connect', network, target, '--set-dns', ...more);
  return status === 0 ? '' : stderr;
}

async function disconnect(t: Test, h1: LabHost, network: string, target: string): Promise<string> {
  const { status, stderr } = await h1.tsnet('disconnect', network, target);
  t.equal(status, 0);
  return stderr;
}

/** Two networks, and the settings of containers on them. */
async function twoNetworks(h1: LabHost): Promise<{ readonly front: string; readonly both: string }> {
  const [front, back] = [await h1.create({ name: 'front' }), await h1.create({ name: 'back' })];
  const [a, b] = [front, back].map(({ subnets }) => subnets[0]?.gateway ?? '');
  const lines = (servers: string[], search: string): string =>
    `${servers.map((each) => `nameserver ${each}\n`).join('')}search ${search}`;
  return {
    front: lines([a ?? ''], 'front.tsnet.internal'),
    both: lines([a ?? '', b ?? ''], 'front.tsnet.internal back.tsnet.internal'),
  };
}

t.test('connect --set-dns writes the settings of a container, and puts back what was there', (t) =>
  withSharedLab(t, options, {
    'a running container resolves by its own resolv.conf, which is put back in the end': async (t, lab) => {
      const h1 = lab.host(1);
      const { front, both } = await twoNetworks(h1);
      const container = await startContainer(t, lab);
      const { target } = container;
      t.equal(await connect(h1, 'front', target, '--name', 'web'), '');
      t.match(await container.read(), front);
      await h1.published();
      t.match(await h1.json('inspect', 'web'), [
        { name: 'web', resolver: { nameservers: [/^10\./], search: ['front.tsnet.internal'], options: [/timeout/] } },
      ]);
      const look = (): Promise<string> => container.run('/bin/busybox nslookup -type=a web || :');
      await waitFor('web by name', async () => /web[^]*Address: 10\./.test(await look()));
      await h1.attach('back', container);
      await waitFor('the second network', async () => (await container.read()).includes(both));
      t.equal(await disconnect(t, h1, 'back', target), '');
      t.match(await container.read(), front, 'follows the networks');
      t.notMatch(await container.read(), 'back');
      t.equal(await disconnect(t, h1, 'front', target), '');
      t.equal(await container.read(), before);

      t.equal(await connect(h1, 'front', target), '');
      t.equal(await connect(h1, 'back', target), '', 'asked for twice');
      t.equal(await connect(h1, 'back', target), '', 'and repeated');
      await disconnect(t, h1, 'front', target);
      t.match(await container.read(), 'search back.tsnet.internal', 'as long as one has asked for it');
      await disconnect(t, h1, 'back', target);
      t.equal(await container.read(), before);
    },
    'links, mount points and missing files are written where the container has them': async (t, lab) => {
      const h1 = lab.host(1);
      const { front } = await twoNetworks(h1);
      const linked = await startContainer(t, lab, {
        prepare: (root) => {
          writeBelow(root, '/run/stub/resolv.conf', before);
          symlinkSync('../../../run/stub/resolv.conf', join(root, resolvConf));
        },
      });
      const mounted = await startContainer(t, lab, {
        prepare: (root) => {
          writeBelow(root, resolvConf, 'below\n');
          writeBelow(root, '/run/over', before);
        },
        begin: `/bin/busybox mount --bind /run/over ${resolvConf}`,
      });
      for (const container of [linked, mounted]) {
        t.equal(await connect(h1, 'front', container.target), '');
        t.match(await container.read(), front);
        await disconnect(t, h1, 'front', container.target);
        t.equal(await container.read(), before);
      }
      t.equal(readFileSync(join(mounted.root, resolvConf), 'utf8'), 'below\n', 'nothing under the mount point');
      t.equal(readFileSync(join(linked.root, '/run/stub/resolv.conf'), 'utf8'), before);

      const bare = await startContainer(t, lab, { prepare: () => undefined });
      t.equal(await connect(h1, 'front', bare.target), '');
      t.match(await bare.read(), front);
      await disconnect(t, h1, 'front', bare.target);
      t.notOk(existsSync(join(bare.root, resolvConf)), 'there was none');
    },
    'a container that leads elsewhere harms nobody, and is told': async (t, lab) => {
      const h1 = lab.host(1);
      await twoNetworks(h1);
      const outside = join(lab.folder, 'outside');
      writeFileSync(outside, 'outside\n');
      const escaping = await startContainer(t, lab, {
        prepare: (root) => symlinkSync(`../../../../../../..${outside}`, join(root, resolvConf)),
      });
      t.match(await connect(h1, 'front', escaping.target), /left as it is: its folder is missing/);
      const device = await startContainer(t, lab, {
        prepare: (root) => execFileSync('mkfifo', [join(root, resolvConf)]),
      });
      t.match(await connect(h1, 'front', device.target), /not a regular file[\s\S]*hint: .*dns resolv-conf/);
      const large = await startContainer(t, lab, {
        prepare: (root) => writeBelow(root, resolvConf, '#'.repeat(17 * 1024)),
      });
      t.match(await connect(h1, 'front', large.target), /more than 16 KiB/);
      t.match(await connect(h1, 'front', device.netns.target), /names no process[\s\S]*hint: .*pid:4711/);
      t.equal(await connect(h1, 'front', `netns:/proc/${(await startContainer(t, lab)).pid}/ns/net`), '');
      t.equal((await endpoints(h1)).length, 1, 'what was refused has no endpoint');

      const own = readFileSync(resolvConf);
      const sharing = await startContainer(t, lab, {
        prepare: (root) => {
          writeBelow(root, resolvConf, '');
          execFileSync('mount', ['--bind', resolvConf, join(root, resolvConf)]);
        },
      });
      // The container has a mount of its own.
      execFileSync('umount', [join(sharing.root, resolvConf)]);
      t.match(await connect(h1, 'front', sharing.target), /the host's own file/);
      t.same(readFileSync(resolvConf), own);
      t.equal(readFileSync(outside, 'utf8'), 'outside\n');
    },
    'the former content outlives the agent, killed at any moment': async (t, lab) => {
      const h1 = lab.host(1);
      const { front, both } = await twoNetworks(h1);
      const container = await startContainer(t, lab);
      const { target } = container;
      await connect(h1, 'front', target);
      await h1.agent.kill();
      await h1.startAgent();
      t.match(await container.read(), front);
      await h1.attach('back', container);
      await waitFor('the second network', async () => (await container.read()).includes(both));
      await disconnect(t, h1, 'back', target);
      await disconnect(t, h1, 'front', target);
      t.equal(await container.read(), before);

      for (const point of ['resolv-conf.journal.after', 'resolv-conf.write.after']) {
        await h1.agent.stop();
        const dying = await h1.startAgent({ env: { TSNET_FAILPOINT: `${point}=kill` } });
        t.match(await connect(h1, 'front', target), /agent/, `killed at ${point}`);
        await dying.ended();
        await h1.startAgent();
        await waitFor('the file to be written', async () => (await container.read()).includes(front));
        await disconnect(t, h1, 'front', target);
        t.equal(await container.read(), before, `after ${point}`);
      }
    },
    "somebody else's content is left, and said": async (t, lab) => {
      const h1 = lab.host(1);
      await twoNetworks(h1);
      const container = await startContainer(t, lab);
      await connect(h1, 'front', container.target);
      await container.run(`echo nameserver 198.18.255.252 > ${resolvConf}`);
      t.match(
        await disconnect(t, h1, 'front', container.target),
        /warning: \/etc\/resolv.conf of pid:\d+ is left as it is: somebody else has changed it/,
      );
      t.equal(await container.read(), 'nameserver 198.18.255.252\n');
      t.equal(await disconnect(t, h1, 'front', container.target), '', 'once');
      t.equal(await connect(h1, 'front', container.target), '', 'and may be set again');
      await disconnect(t, h1, 'front', container.target);
      t.equal(await container.read(), 'nameserver 198.18.255.252\n');
    },
    'a container that has gone is forgotten; one that lives on gets its file back': async (t, lab) => {
      const h1 = lab.host(1);
      const { front } = await twoNetworks(h1);
      const container = await startContainer(t, lab);
      await connect(h1, 'front', container.target, '--id', 'job');
      await container.kill();
      await waitFor('the endpoint to go', async () => (await endpoints(h1)).length === 0);
      t.match(await h1.json('disconnect', 'front', '--id', 'job'), { detached: [] });
      t.match(await connect(h1, 'front', container.target), /no such process/);

      const stayed = await startContainer(t, lab);
      const [program = '', ...args] = [...stayed.enter, '/bin/busybox', 'sleep', '1000'];
      const helper = spawn(program, args, { stdio: 'ignore' });
      const pid = helper.pid ?? 0;
      await waitFor('it to be inside', async () => readlinkSync(`/proc/${pid}/exe`).endsWith('/bin/busybox'));
      t.equal(await connect(h1, 'front', `pid:${pid}`), '', 'by a process that ends before the container');
      t.match(await stayed.read(), front);
      helper.kill('SIGKILL');
      await waitFor('the file to be put back', async () => (await stayed.read()) === before, 20_000);
      await h1.agent.stop();
      t.notMatch(readFileSync(join(h1.dataDir, 'journal'), 'utf8').split('\n').at(-2), 'before.example');
      await h1.startAgent();
      rmSync(join(stayed.root, resolvConf));
    },
  }),
);
