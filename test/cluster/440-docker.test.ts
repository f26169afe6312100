import t, { type Test } from 'tap';
import { Dockerd } from '../lab/dockerd.js';
import type { LabHost } from '../lab/host.js';
import type { Lab } from '../lab/lab.js';
import { enterArgs, netnsPath } from '../lab/netns.js';
import { canPing, echoBytes, listenIn, type Sandbox } from '../lab/sandbox.js';
import { outsideAddress, underlayAddress, underlayAddress6 } from '../lab/underlay.js';
import { waitFor } from '../lab/wait.js';
import { withLab } from '../lab/with-lab.js';

function place(lab: Lab, name: string): Sandbox {
  const netns = `${lab.prefix}${name}`;
  return { name, target: `netns:${netnsPath(netns)}`, enter: enterArgs(netnsPath(netns)) };
}

async function answers(from: Sandbox, address: string, port: number): Promise<boolean> {
  return echoBytes(from, 'tcp', { address, port, sizeBytes: 16 }).then(
    () => true,
    () => false,
  );
}

/** The rules of DOCKER-USER that are not Docker's own. */
async function ourRules(host: LabHost, program = 'iptables'): Promise<string[]> {
  const { stdout } = await host.exec(program, '-S', 'DOCKER-USER');
  return stdout.split('\n').filter((line) => line.startsWith('-A') && line !== '-A DOCKER-USER -j RETURN');
}

const echo = ['nc', '-ll', '-p', '80', '-e', '/bin/cat'];
const rule = /^-A DOCKER-USER -m mark --mark 0x1000\/0x1000 -m comment --comment tsnet -j ACCEPT$/;

/** What runs on one host beside Docker, and on another. */
interface Scene {
  readonly lab: Lab;
  readonly number: number;
  readonly docker: Dockerd;
  readonly server: Sandbox;
  readonly beside: Sandbox;
  readonly far: Sandbox;
  /** Addresses of `beside` and `far`. */
  readonly addresses: { readonly beside: readonly string[]; readonly far: readonly string[] };
}

/** Ours and Docker's, each to each, and both to the outside. */
async function allIsWell(t: Test, scene: Scene, when: string): Promise<void> {
  const { lab, number, docker, server, beside, far, addresses } = scene;
  const [host4, host6] = [underlayAddress(10 + number), underlayAddress6(10 + number)];
  const [host, lan] = [place(lab, `h${number}`), place(lab, 'lan')];
  const [web, other] = [await docker.sandbox('web'), await docker.sandbox('other')];
  await waitFor('the rule in DOCKER-USER', async () => (await ourRules(lab.host(number))).length > 0);
  await waitFor(
    'nothing to warn of',
    async () => !(await lab.host(number).status()).warnings.some(({ code }) => code === 'ERR_FORWARD_DROPPED'),
  );
  await waitFor('what Docker’s container runs to listen', () => answers(lan, host4, 8081));
  await t.test(when, async (t) => {
    const rules = await ourRules(lab.host(number));
    t.equal(rules.length, 1, 'one rule in DOCKER-USER');
    t.match(rules[0], rule, 'and it is marked');
    for (const address of addresses.beside) t.ok(await canPing(server, address), `ours on one host: ${address}`);
    for (const address of addresses.far) t.ok(await canPing(server, address), `ours across hosts: ${address}`);
    for (const address of addresses.beside) t.ok(await canPing(far, address), `and back: ${address}`);
    t.ok(await canPing(server, outsideAddress), 'our way out');
    for (const address of [host4, host6]) t.ok(await answers(lan, address, 8080), `our port from outside: ${address}`);
    t.ok(await answers(host, host4, 8080), 'our port from the host');
    t.ok(await answers(beside, host4, 8080), 'our port from our container');
    t.ok(await answers(web, host4, 8080), 'our port from a container of Docker’s');
    t.ok(await answers(lan, host4, 8081), 'Docker’s port from outside');
    t.ok(await answers(host, host4, 8081), 'Docker’s port from the host');
    t.ok(await answers(server, host4, 8081), 'Docker’s port from our container');
    t.ok(await canPing(web, outsideAddress), 'Docker’s way out');
    const address = await docker.run('inspect', '--format', '{{.NetworkSettings.IPAddress}}', 'web');
    t.ok(await answers(other, address, 80), 'Docker’s containers on one bridge');
    t.notOk(await canPing(server, address, { timeoutMs: 300 }), 'Docker’s containers are not open to ours');
    for (const target of addresses.beside.filter((each) => !each.includes(':')))
      t.notOk(await canPing(web, target, { timeoutMs: 300 }), 'nor ours to Docker’s');
  });
}

async function startContainers(docker: Dockerd): Promise<void> {
  await docker.container('web', ['-p', '8081:80'], echo);
  await docker.container('other', [], ['sleep', '1000000']);
}

t.test('dockerd and the agent work on one host, whichever starts first or starts again', async (t) => {
  await withLab(t, { hosts: 2, agentArgs: ['--quarantine', '1s'] }, async (lab) => {
    const [first, later] = [new Dockerd(lab.host(1)), new Dockerd(lab.host(2))];
    try {
      // On the first host dockerd is there before any network of ours.
      await first.start();
      await first.import();
      await startContainers(first);
      await lab.host(1).create({ name: 'front', ipv6: true });
      const ports = [{ hostPort: 8080, port: 80 }];
      const [a, b, c, d] = [await lab.sandbox(), await lab.sandbox(), await lab.sandbox(), await lab.sandbox()];
      const before = await ourRules(lab.host(1));
      t.same(before, [], 'nothing in DOCKER-USER while no network is carried');
      await lab.host(1).attach('front', a, { ports });
      const besideFirst = await lab.host(1).attach('front', b);
      await lab.host(2).attach('front', c, { ports });
      const besideLater = await lab.host(2).attach('front', d);
      const servers = [await listenIn(a, 'listen-tcp', 80), await listenIn(c, 'listen-tcp', 80)];
      const onFirst: Scene = {
        ...{ lab, number: 1, docker: first, server: a, beside: b, far: d },
        addresses: { beside: besideFirst.addresses, far: besideLater.addresses },
      };
      const onLater: Scene = {
        ...{ lab, number: 2, docker: later, server: c, beside: d, far: b },
        addresses: { beside: besideLater.addresses, far: besideFirst.addresses },
      };
      await allIsWell(t, onFirst, 'with dockerd started before');

      await later.start();
      await later.import();
      await startContainers(later);
      await allIsWell(t, onLater, 'with dockerd started after');

      await first.stop();
      t.ok(await canPing(a, outsideAddress), 'while dockerd is away, whose rules stay');
      await first.start();
      await first.run('start', 'web', 'other');
      await allIsWell(t, onFirst, 'after dockerd’s restart');

      await lab.host(1).agent.kill();
      await lab.host(1).startAgent();
      await allIsWell(t, onFirst, 'after the agent was killed');

      await lab.host(1).exec('iptables', '-F', 'DOCKER-USER');
      await allIsWell(t, onFirst, 'after somebody flushed DOCKER-USER');

      for (const server of servers) await server.end();
      for (const sandbox of [a, b]) await lab.host(1).detach('front', sandbox);
      await waitFor('our rule to go with the last network', async () => (await ourRules(lab.host(1))).length === 0);
      await waitFor(
        'nothing of ours to be left',
        async () => !/tsnet/.test((await lab.host(1).exec('nft', 'list', 'ruleset')).stdout),
      );
      t.ok(await answers(place(lab, 'lan'), underlayAddress(11), 8081), 'and Docker’s port works');
    } finally {
      await first.remove();
      await later.remove();
    }
  });
});

t.test('with --no-docker-user nothing is put into Docker’s chain, and the drop is reported', async (t) => {
  await withLab(t, { hosts: 1, agentArgs: ['--no-docker-user'] }, async (lab) => {
    const docker = new Dockerd(lab.host(1));
    try {
      await docker.start();
      await lab.host(1).create({ name: 'front' });
      const sandbox = await lab.sandbox();
      await lab.host(1).attach('front', sandbox);
      const { warnings } = await lab
        .host(1)
        .waitForAgent('the warning', (status) => status.warnings.some(({ code }) => code === 'ERR_FORWARD_DROPPED'));
      t.notOk(await canPing(sandbox, outsideAddress, { timeoutMs: 300 }), 'it does drop');
      t.same(await ourRules(lab.host(1)), []);
      const help = /: (iptables -I FORWARD .*)$/.exec(warnings.map(({ message }) => message).join('\n'))?.[1] ?? '';
      t.equal((await lab.host(1).exec(...help.split(' '))).status, 0, help);
      t.ok(await canPing(sandbox, outsideAddress), 'the command that the warning names opens the way');
    } finally {
      await docker.remove();
    }
  });
});
