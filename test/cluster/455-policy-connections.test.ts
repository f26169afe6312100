import t, { type Test } from 'tap';
import type { PolicyBody } from '../../core/api/policy.js';
import type { Lab } from '../lab/lab.js';
import { Talker } from '../lab/talker.js';
import { waitFor } from '../lab/wait.js';
import { withSharedLab } from '../lab/with-lab.js';

const put = (lab: Lab, policy: PolicyBody): Promise<unknown> =>
  lab.host(1).api.call('PUT', `/v1/policies/${policy.name}`, { body: policy });
/** By family: where the server speaks, to whom it is permitted and to whom it is not. */
const pushPorts = [9004, 9006, 9014, 9016];
const web = { selects: { matchLabels: { role: 'web' } } };
const from = (role: string): { endpoints: { matchLabels: { role: string } } } => ({
  endpoints: { matchLabels: { role } },
});

/** Whether a connection that is to go on does: on a busy machine an answer may be late. */
const isWell = (say: () => Promise<boolean>): Promise<boolean> => waitFor('an answer', say, 20_000).catch(() => false);

async function goOn(t: Test, lab: Lab, isTracked: boolean): Promise<void> {
  const tracked = `net.bridge.bridge-nf-call-ip6tables=${isTracked ? 1 : 0}`;
  for (const host of lab.hosts)
    await host.exec('busybox', 'sysctl', '-w', tracked, tracked.replace('ip6tables', 'iptables'));
  await lab.host(1).create({ name: 'red', ipv6: true });
  const join = async (host: number, role: string): Promise<{ talker: Talker; addresses: readonly string[] }> => {
    const sandbox = await lab.sandbox();
    const { addresses } = await lab.host(host).attach('red', sandbox, { labels: { role } });
    return { talker: await Talker.start(sandbox.enter, [80, ...pushPorts]), addresses };
  };
  const server = await join(1, 'web');
  const [near, far, bad] = [await join(1, 'front'), await join(2, 'front'), await join(1, 'bad')];
  try {
    for (const address of server.addresses) {
      const isInet6 = address.includes(':');
      const [open, shut] = isInet6 ? [9006, 9016] : [9004, 9014];
      const family = isInet6 ? 'IPv6' : 'IPv4';
      const say = {
        near: await near.talker.open({ protocol: 'tcp', address, port: 80 }),
        far: await far.talker.open({ protocol: 'tcp', address, port: 80 }),
        bad: await bad.talker.open({ protocol: 'tcp', address, port: 80 }),
        datagrams: await far.talker.open({ protocol: 'udp', address, port: 80 }),
      };
      // Opened by the client, but the first to speak under the policy is the server.
      await near.talker.open({ protocol: 'tcp', address, port: open });
      await bad.talker.open({ protocol: 'tcp', address, port: shut });
      for (const [name, speak] of Object.entries(say)) t.ok(await isWell(speak), `${name} is connected, ${family}`);
      t.ok(await isWell(() => server.talker.push(open)));
      t.ok(await isWell(() => server.talker.push(shut)));

      await put(lab, { name: 'p', ...web, ingress: [{ peers: [from('front')] }] });
      await t.resolves(
        waitFor('the forbidden to end', async () => !(await say.bad())),
        `the first policy ends what it forbids, ${family}`,
      );
      t.notOk(await server.talker.push(shut), `also in the other direction, ${family}`);
      t.ok(await isWell(() => server.talker.push(open)), `the server goes on to speak to whom it permits, ${family}`);
      t.ok(await isWell(say.near), `the permitted goes on beside it, ${family}`);
      t.ok(await isWell(say.far), `and across hosts, ${family}`);
      t.ok(await isWell(say.datagrams), `and with datagrams, ${family}`);

      await put(lab, { name: 'p', ...web, ingress: [{ peers: [from('front')], ports: [{ port: 80 }] }] });
      await t.resolves(
        waitFor('datagrams to end', async () => !(await say.datagrams())),
        `an update ends what it forbids, ${family}`,
      );
      t.ok(await isWell(say.near), `and nothing else, ${family}`);
      t.ok(await isWell(say.far), `nor across hosts, ${family}`);

      await put(lab, { name: 'p', ...web, ingress: [] });
      await t.resolves(
        waitFor('all to end', async () => !(await say.near()) && !(await say.far())),
        `all end with the last permission, ${family}`,
      );
      await lab.host(1).api.call('DELETE', '/v1/policies/p');
      await t.resolves(waitFor('it to go on', say.near), `without policies it goes on, ${family}`);
      await t.resolves(waitFor('it to go on', say.far), `also across hosts, ${family}`);
      await waitFor('no table', async () => {
        const { stdout } = await lab.host(1).exec('nft', 'list', 'tables');
        return !stdout.includes('tsnet-policy');
      });
    }
  } finally {
    for (const { talker } of [server, near, far, bad]) await talker.end();
  }
}

t.test('open connections', (t) =>
  withSharedLab(
    t,
    { hosts: 2 },
    {
      'go on where policies permit them, and end where they do not': (t, lab) => goOn(t, lab, true),
      'also where nothing on the bridge was tracked before the first policy': (t, lab) => goOn(t, lab, false),
    },
  ),
);
