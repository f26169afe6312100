import t from 'tap';
import { enterArgs, netnsPath } from '../lab/netns.js';
import { listenIn, type Sandbox } from '../lab/sandbox.js';
import { Traffic } from '../lab/traffic.js';
import { underlayAddress, underlayAddress6 } from '../lab/underlay.js';
import { waitFor } from '../lab/wait.js';
import { withSharedLab, type LabParts } from '../lab/with-lab.js';

/** The host is reached from outside by its address, and by itself: the kernel forwards nothing from ::1. */
const families = [
  { family: 'ipv4', host: underlayAddress(11), itself: '127.0.0.1', elsewhere: underlayAddress(1), any: '0.0.0.0' },
  {
    family: 'ipv6',
    host: underlayAddress6(11),
    itself: underlayAddress6(11),
    elsewhere: underlayAddress6(1),
    any: '::',
  },
] as const;

type Family = (typeof families)[number];

const goesOn =
  ({ family, host, itself, elsewhere, any }: Family): LabParts[string] =>
  async (t, lab) => {
    await lab.host(1).create({ name: 'front', ipv6: true });
    const lan: Sandbox = { name: 'lan', target: '', enter: enterArgs(netnsPath(`${lab.prefix}lan`)) };
    const h1: Sandbox = { name: 'h1', target: '', enter: enterArgs(netnsPath(`${lab.prefix}h1`)) };
    const tracked = async (...args: string[]): Promise<string> =>
      (await lab.host(1).exec('conntrack', '-L', '-f', family, '-p', 'udp', ...args)).stdout;
    const ports = [{ hostPort: 5353, port: 53, protocol: 'udp' }] as const;

    // Connections are tracked from here on.
    await lab.host(1).attach('front', await lab.sandbox());
    // Both begin before anything is published: what the host tracks of them then knows no translation.
    const outside = new Traffic(lan.enter, ['steady', host, 5353, 50]);
    const local = new Traffic(h1.enter, ['steady', itself, 5353, 50]);
    // Somebody else's, which is not to be touched: the same port, to another machine.
    const other = await listenIn(lan, 'listen-udp', 5353);
    const unconcerned = new Traffic(h1.enter, ['steady', elsewhere, 5353, 50]);
    await unconcerned.expect('ready');
    const flow = async (): Promise<string> =>
      /id=\d+/.exec(await tracked('--orig-port-dst', '5353', '-d', elsewhere, '-o', 'id'))?.[0] ?? '';
    await waitFor('flows that lead nowhere', async () => (await tracked()).includes(`dst=${host} `));
    const before = await flow();

    const answered = async (what: string): Promise<void> => {
      const sandbox = await lab.sandbox();
      const endpoint = await lab.host(1).attach('front', sandbox, { ports });
      const server = await listenIn(sandbox, 'listen-group', any, 53, 'eth0');
      await waitFor(`${what}: both clients`, () => new Set(server.lines.map(({ from }) => from)).size >= 2, 20_000);
      t.pass(what);
      await server.end();
      await lab.host(1).detach('front', sandbox);
      const address = endpoint.addresses.find((text) => text.includes(':') === (family === 'ipv6')) ?? '';
      await waitFor(
        `${what}: no flow to lead to it when it is gone`,
        async () => !(await tracked('--orig-port-dst', '5353')).includes(`src=${address} `),
      );
    };
    await answered('the first container hears both');
    await answered('its replacement hears both');
    t.equal(await flow(), before, 'a flow of the same port to elsewhere is the same one');
    for (const traffic of [outside, local, unconcerned]) await traffic.end();
    await other.end();
  };

t.test('UDP to a published port goes on when the container behind it is replaced', (t) =>
  withSharedLab(t, { hosts: 1 }, Object.fromEntries(families.map((each) => [`over ${each.family}`, goesOn(each)]))),
);
