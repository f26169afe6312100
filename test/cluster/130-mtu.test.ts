import t from 'tap';
import { canPing, echoBytes, execIn, listenIn, reaches } from '../lab/sandbox.js';
import { withLab } from '../lab/with-lab.js';

const vxlanOverheadBytes = 50;

for (const wireMtu of [1500, 9000]) {
  t.test(`packets of the network's MTU pass unfragmented over a wire of ${wireMtu}`, async (t) => {
    await withLab(t, { hosts: 2, mtu: wireMtu }, async (lab) => {
      const network = await lab.host(1).create({ name: 'net', ipv6: true });
      t.equal(network.mtu, wireMtu - vxlanOverheadBytes, 'what the wire carries, less the encapsulation');
      const [near, far] = [await lab.sandbox(), await lab.sandbox()];
      await lab.host(1).attach('net', near);
      const { addresses } = await lab.host(2).attach('net', far);
      t.match((await execIn(near, 'ip', 'link', 'show', 'eth0')).stdout, `mtu ${network.mtu}`);
      const echo = await listenIn(far, 'listen-tcp', 7000);
      for (const address of addresses) {
        await reaches(near, address);
        t.ok(await canPing(near, address, { packetBytes: network.mtu }), `${address}: a packet of the MTU passes`);
        t.notOk(
          await canPing(near, address, { packetBytes: network.mtu + 1, timeoutMs: 300 }),
          'a larger one does not',
        );
        t.match(await echoBytes(near, 'tcp', { address, port: 7000, sizeBytes: 2_000_000 }), {
          receivedBytes: 2_000_000,
        });
      }
      await echo.end();
    });
  });
}

t.test('a network that is larger than the wire allows is refused, not left to lose packets', async (t) => {
  await withLab(t, { hosts: 2 }, async (lab) => {
    const [host, roomy] = [lab.host(1), lab.host(2)];
    await t.rejects(
      host.create({ name: 'wide', mtu: 8950 }),
      { code: 'ERR_MTU_UNDERLAY', message: /8950.*1450/ },
      'that no host carries, when it is made',
    );
    await roomy.agent.stop();
    await roomy.exec('ip', 'link', 'set', 'eth0', 'mtu', '9000');
    await roomy.startAgent();
    await host.create({ name: 'wide', mtu: 8950 });
    await t.rejects(
      host.attach('wide', await lab.sandbox()),
      { code: 'ERR_MTU_UNDERLAY', message: /8950.*1450/ },
      'that this host does not carry, when it is joined',
    );
    await roomy.attach('wide', await lab.sandbox());
  });
});
