import t from 'tap';
import { settingsKey } from '../../core/keys.js';
import type { ClusterSettings } from '../../core/model.js';
import { connects, isOpen, place } from '../lab/place.js';
import { listenIn } from '../lab/sandbox.js';
import { underlayAddress, underlayAddress6 } from '../lab/underlay.js';
import { waitFor } from '../lab/wait.js';
import { withLab } from '../lab/with-lab.js';

const machine = underlayAddress(2);

t.test('no sandbox reaches controllers or their store', async (t) => {
  await withLab(t, { hosts: 2, controllers: 2, etcd: 'on-the-wire' }, async (lab) => {
    const host = lab.host(1);
    const network = await host.create({ name: 'net', ipv6: true });
    const attacker = await lab.sandbox();
    await host.attach('net', attacker);
    const [self, controllers] = [place(lab, 'h1'), place(lab, 'ctl')];
    const settings = async (): Promise<ClusterSettings> =>
      JSON.parse((await lab.etcdctl('get', '--print-value-only', settingsKey)).stdout) as ClusterSettings;

    await t.test('which the agents know of from the settings', async (t) => {
      t.same(
        (await settings()).guarded?.map(({ address, port }) => `${address}:${port}`).sort(),
        [2379, 2380, 7420, 7421].map((port) => `${machine}:${port}`),
      );
      const control = await listenIn(controllers, 'listen-tcp', 7999);
      t.ok(await isOpen(attacker, machine, 7999), 'another port of that machine is reached');
      await control.end();
      for (const port of [2379, 2380, 7420, 7421]) {
        t.ok(await isOpen(self, machine, port), `the host reaches ${port}`);
        t.notOk(await connects(attacker, machine, port), `the sandbox does not reach ${port}`);
      }
    });

    await t.test('also where they are on its own host, by whatever address, and over IPv6', async (t) => {
      const now = await settings();
      const guarded = [
        ...(now.guarded ?? []),
        { address: underlayAddress(11), port: 3379 },
        { address: underlayAddress6(2), port: 4379 },
      ];
      await lab.etcdctl('put', settingsKey, JSON.stringify({ ...now, generation: now.generation + 1, guarded }));
      await waitFor('it to be heard', async () =>
        (await host.exec('nft', 'list', 'set', 'inet', 'tsnet', 'guarded-ports')).stdout.includes('3379'),
      );
      const listeners = [
        await listenIn(self, 'listen-tcp', 3379),
        await listenIn(self, 'listen-tcp', 3378),
        await listenIn(controllers, 'listen-tcp', 4379),
        await listenIn(controllers, 'listen-tcp', 4378),
      ];
      const gateways = network.subnets.flatMap(({ gateway }) => gateway ?? []);
      for (const address of [underlayAddress(11), underlayAddress6(11), ...gateways]) {
        t.ok(await isOpen(attacker, address, 3378), `${address}, another port`);
        t.notOk(await connects(attacker, address, 3379), address);
      }
      t.ok(await isOpen(attacker, underlayAddress6(2), 4378));
      t.notOk(await connects(attacker, underlayAddress6(2), 4379));
      for (const listener of listeners) await listener.end();
    });

    await t.test('and after a controller was started again, which adds nothing', async (t) => {
      const before = await settings();
      await lab.controller(2).daemon.stop();
      await lab.controller(2).start();
      t.same(await settings(), before);
    });
  });
});
