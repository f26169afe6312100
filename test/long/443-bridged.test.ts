import t from 'tap';
import type { Lab } from '../lab/lab.js';
import { enterArgs, netnsPath } from '../lab/netns.js';
import { echoBytes, listenIn, type Sandbox } from '../lab/sandbox.js';
import { underlayAddress, underlayAddress6 } from '../lab/underlay.js';
import { withLab } from '../lab/with-lab.js';

const hostAddresses = [underlayAddress(11), underlayAddress6(11)];

function place(lab: Lab, name: string): Sandbox {
  return { name, target: '', enter: enterArgs(netnsPath(`${lab.prefix}${name}`)) };
}

async function answers(from: Sandbox, protocol: 'tcp' | 'udp', address: string, port: number): Promise<boolean> {
  return echoBytes(from, protocol, { address, port, sizeBytes: 16 }).then(
    () => true,
    () => false,
  );
}

t.test('published ports work whether bridged frames come by the host’s tables or not', async (t) => {
  await withLab(t, { hosts: 2 }, async (lab) => {
    await lab.host(1).create({ name: 'front', ipv6: true });
    const [server, near, far] = [await lab.sandbox(), await lab.sandbox(), await lab.sandbox()];
    const ports = (['tcp', 'udp'] as const).map((protocol) => ({ hostPort: 8080, port: 80, protocol }));
    const { addresses } = await lab.host(1).attach('front', server, { ports });
    await lab.host(1).attach('front', near);
    await lab.host(2).attach('front', far);
    const listeners = [await listenIn(server, 'listen-tcp', 80), await listenIn(server, 'listen-udp', 80)];
    const clients = [place(lab, 'lan'), place(lab, 'h1'), place(lab, 'h2'), near, far, server];
    const call = (name: string): string => `net.bridge.bridge-nf-call-${name}`;
    try {
      for (const value of ['1', '0', '1']) {
        for (const host of lab.hosts) {
          for (const name of ['iptables', 'ip6tables']) {
            const { status } = await host.exec('busybox', 'sysctl', '-w', `${call(name)}=${value}`);
            t.equal(status, 0, `${host.name}: ${call(name)}=${value}`);
          }
        }
        for (const protocol of ['tcp', 'udp'] as const) {
          for (const [index, from] of clients.entries()) {
            const what = `from ${['outside', 'the host', 'another host', 'beside', 'afar', 'itself'][index] ?? ''}`;
            for (const address of hostAddresses)
              t.ok(await answers(from, protocol, address, 8080), `${value}: ${protocol} ${what} to ${address}`);
          }
          t.ok(await answers(place(lab, 'h1'), protocol, '127.0.0.1', 8080), `${value}: ${protocol} by 127.0.0.1`);
          for (const address of addresses) {
            t.ok(await answers(near, protocol, address, 80), `${value}: ${protocol} without the port, beside`);
            t.ok(await answers(far, protocol, address, 80), `${value}: ${protocol} without the port, from afar`);
          }
        }
      }
    } finally {
      for (const listener of listeners) await listener.end();
    }
  });
});
