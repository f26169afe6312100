import t from 'tap';
import { enterArgs, netnsPath } from '../lab/netns.js';
import { listenIn, type Sandbox } from '../lab/sandbox.js';
import { Traffic } from '../lab/traffic.js';
import { underlayAddress } from '../lab/underlay.js';
import { waitFor } from '../lab/wait.js';
import { withLab } from '../lab/with-lab.js';

t.test(
  'UDP to a published port goes on when the container behind it is replaced, while the client goes on sending',
  async (t) => {
    await withLab(t, { hosts: 1 }, async (lab) => {
      await lab.host(1).create({ name: 'front' });
      const lan: Sandbox = { name: 'lan', target: '', enter: enterArgs(netnsPath(`${lab.prefix}lan`)) };
      const h1: Sandbox = { name: 'h1', target: '', enter: enterArgs(netnsPath(`${lab.prefix}h1`)) };
      const host = underlayAddress(11);
      const ports = [{ hostPort: 5353, port: 53, protocol: 'udp' }] as const;

      // Connections are tracked from here on.
      await lab.host(1).attach('front', await lab.sandbox());
      // Both begin before anything is published: what the host tracks of them then knows no translation.
      const outside = new Traffic(lan.enter, ['steady', host, 5353, 50]);
      const local = new Traffic(h1.enter, ['steady', '127.0.0.1', 5353, 50]);
      // Somebody else's, which is not to be touched: the same port, to another machine.
      const other = await listenIn(lan, 'listen-udp', 5353);
      const unconcerned = new Traffic(h1.enter, ['steady', underlayAddress(1), 5353, 50]);
      await unconcerned.expect('ready');
      const flow = async (): Promise<string> =>
        (
          await lab
            .host(1)
            .exec('conntrack', '-L', '-p', 'udp', '--orig-port-dst', '5353', '-d', underlayAddress(1), '-o', 'id')
        ).stdout.match(/id=\d+/)?.[0] ?? '';
      await waitFor('flows that lead nowhere', async () =>
        /dst=198\.18\.0\.11 /.test((await lab.host(1).exec('conntrack', '-L', '-p', 'udp')).stdout),
      );
      const before = await flow();

      const answered = async (what: string): Promise<void> => {
        const sandbox = await lab.sandbox();
        const endpoint = await lab.host(1).attach('front', sandbox, { ports });
        const server = await listenIn(sandbox, 'listen-group', '0.0.0.0', 53, 'eth0');
        await waitFor(`${what}: both clients`, () => new Set(server.lines.map(({ from }) => from)).size >= 2, 5000);
        t.pass(what);
        await server.end();
        await lab.host(1).detach('front', sandbox);
        const toGone = new RegExp(`src=${endpoint.addresses[0]} `);
        await waitFor(`${what}: no flow to lead to it when it is gone`, async () => {
          const { stdout } = await lab.host(1).exec('conntrack', '-L', '-p', 'udp', '--orig-port-dst', '5353');
          return !toGone.test(stdout);
        });
      };
      await answered('the first container hears both');
      await answered('its replacement hears both');
      t.equal(await flow(), before, 'a flow of the same port to elsewhere is the same one');
      for (const traffic of [outside, local, unconcerned]) await traffic.end();
      await other.end();
    });
  },
);
