import t, { type Test } from 'tap';
import type { EndpointView } from '../../core/api/endpoint.js';
import type { PolicyBody, PolicyView } from '../../core/api/policy.js';
import type { Labels } from '../../core/model.js';
import type { Lab } from '../lab/lab.js';
import { enterArgs, netnsPath } from '../lab/netns.js';
import { Talker } from '../lab/talker.js';
import type { Probe } from '../lab/talker-program.js';
import { underlayAddress, underlayAddress6 } from '../lab/underlay.js';
import { quickest, waitFor } from '../lab/wait.js';
import { withSharedLab } from '../lab/with-lab.js';

/** The talker's own: a probe that is denied takes so long. */
const patienceMs = 1000;
const ports = [80, 81, 90, 95, 9000];

interface Member {
  readonly host: number;
  readonly endpoint: EndpointView;
  readonly talker: Talker;
}

/** Members of network red, whose talkers are ended whatever happens. */
async function withMembers<Name extends string>(
  lab: Lab,
  wanted: Readonly<Record<Name, { readonly host: number; readonly role: string; readonly network?: string }>>,
  body: (members: Record<Name, Member>) => Promise<void>,
): Promise<void> {
  const members: Partial<Record<Name, Member>> = {};
  try {
    for (const name in wanted) {
      const { host, role, network = 'red' } = wanted[name];
      const sandbox = await lab.sandbox();
      const endpoint = await lab.host(host).attach(network, sandbox, { name, labels: { role } });
      members[name] = { host, endpoint, talker: await Talker.start(sandbox.enter, ports) };
    }
    await body(members as Record<Name, Member>);
  } finally {
    for (const name in members) await members[name]?.talker.end();
  }
}

/** `tcp/80`, `udp/80` or `icmp`, to both addresses of a member. */
function probesOf(to: Member, what: string): Probe[] {
  const [protocol, port = '0'] = what.split('/');
  return to.endpoint.addresses.map((address) => ({
    protocol: protocol as Probe['protocol'],
    address,
    port: Number(port),
  }));
}

type Row = readonly [from: Member, to: Member, what: string, isReached: boolean];

/** Who reaches whom, in both families: what the rows say, as soon as the hosts have heard of it. */
async function holds(t: Test, what: string, rows: readonly Row[]): Promise<void> {
  const text = ([from, to, port]: Row, answer: string): string =>
    `${from.endpoint.name ?? ''} → ${to.endpoint.name ?? ''} ${port}: ${answer}`;
  const wanted = rows.map((row) => text(row, row[3] ? 'yes yes' : 'no no'));
  let seen: string[] = [];
  const look = async (): Promise<boolean> => {
    seen = await Promise.all(
      rows.map(async (row) => {
        const answers = await row[0].talker.probe(probesOf(row[1], row[2]));
        return text(row, answers.map((answer) => (answer ? 'yes' : 'no')).join(' '));
      }),
    );
    return seen.join() === wanted.join();
  };
  await waitFor(what, look, 20_000).catch(() => undefined);
  t.same(seen, wanted, what);
}

const put = (lab: Lab, policy: PolicyBody): Promise<unknown> =>
  lab.host(1).api.call('PUT', `/v1/policies/${policy.name}`, { body: policy });
const drop = (lab: Lab, name: string): Promise<unknown> => lab.host(1).api.call('DELETE', `/v1/policies/${name}`);
const role = (value: string): { matchLabels: Labels } => ({ matchLabels: { role: value } });
const web = { selects: role('web') };

async function tables(lab: Lab, host: number): Promise<string> {
  return (await lab.host(host).exec('nft', 'list', 'tables')).stdout;
}

/** Nothing of policies is left on the hosts. */
async function isGone(t: Test, lab: Lab, hosts = lab.hosts): Promise<void> {
  for (const { name } of hosts) {
    const number = Number(name.slice(1));
    await waitFor(`no table on ${name}`, async () => !/tsnet-policy/.test(await tables(lab, number)));
    await t.resolves(
      waitFor(`the bridge of ${name}`, async () => {
        const links = (await lab.host(number).exec('ip', '-d', 'link', 'show', 'type', 'bridge')).stdout;
        return /nf_call_iptables 0/.test(links) && !/nf_call_ip6?tables 1/.test(links);
      }),
      `the bridge of ${name} shows its frames to nobody`,
    );
  }
}

t.test('policies', (t) =>
  withSharedLab(
    t,
    { hosts: 2 },
    {
      'who is selected has only what policies permit, on one bridge and across hosts': async (t, lab) => {
        await lab.host(1).create({ name: 'red', ipv6: true });
        const wanted = {
          web: { host: 1, role: 'web' },
          near: { host: 1, role: 'front' },
          far: { host: 2, role: 'front' },
          other: { host: 2, role: 'other' },
          beside: { host: 1, role: 'other' },
        };
        await withMembers(lab, wanted, async ({ web: server, near, far, other, beside }) => {
          const all = [near, far, other, beside];
          const each = (members: readonly Member[], what: string, isReached: boolean): Row[] =>
            members.map((from): Row => [from, server, what, isReached]);

          await holds(t, 'before any policy everybody reaches everybody', [
            ...each(all, 'tcp/80', true),
            ...each(all, 'udp/80', true),
            ...each(all, 'icmp', true),
          ]);
          t.notMatch(await tables(lab, 1), /tsnet-policy/, 'and there is no table');

          await put(lab, { name: 'shut', ...web, ingress: [] });
          await holds(t, 'default deny once selected', [
            ...each(all, 'tcp/80', false),
            ...each(all, 'udp/80', false),
            ...each(all, 'icmp', false),
            [server, near, 'tcp/80', true],
            [server, far, 'udp/80', true],
            [server, far, 'icmp', true],
            [near, far, 'tcp/80', true],
            [near, beside, 'tcp/80', true],
          ]);

          await put(lab, { name: 'fronts', ...web, ingress: [{ peers: [{ endpoints: role('front') }] }] });
          await holds(t, 'a second policy adds to the first', [
            ...each([near, far], 'tcp/80', true),
            ...each([near, far], 'udp/81', true),
            ...each([near, far], 'icmp', true),
            ...each([other, beside], 'tcp/80', false),
            ...each([other, beside], 'icmp', false),
          ]);

          await put(lab, {
            name: 'fronts',
            ...web,
            ingress: [
              {
                peers: [{ endpoints: role('front') }],
                ports: [{ port: 80 }, { port: 90, endPort: 95 }, { protocol: 'udp', port: 81 }],
              },
              { peers: [{ endpoints: role('other') }], ports: [{ protocol: 'icmp' }] },
            ],
          });
          await holds(t, 'an update of a policy: ports, ranges and protocols', [
            ...each([near, far], 'tcp/80', true),
            ...each([near, far], 'tcp/90', true),
            ...each([near, far], 'tcp/95', true),
            ...each([near, far], 'udp/81', true),
            ...each([near, far], 'tcp/81', false),
            ...each([near, far], 'udp/80', false),
            ...each([near, far], 'icmp', false),
            ...each([other, beside], 'icmp', true),
            ...each([other, beside], 'tcp/80', false),
          ]);

          await lab.host(2).api.call('PATCH', `/v1/agent/endpoints/${other.endpoint.id}`, {
            body: { labels: { role: 'front' } },
          });
          await lab.host(1).api.call('PATCH', `/v1/agent/endpoints/${near.endpoint.id}`, {
            body: { labels: { role: null } },
          });
          await holds(t, 'labels change, on this host and on another', [
            ...each([other, far], 'tcp/80', true),
            ...each([near, beside], 'tcp/80', false),
          ]);

          await lab.host(1).api.call('PATCH', `/v1/agent/endpoints/${server.endpoint.id}`, {
            body: { labels: { role: 'none' } },
          });
          await holds(t, 'who is selected by none any more is open', each(all, 'tcp/81', true));

          await lab.host(1).api.call('PATCH', `/v1/agent/endpoints/${server.endpoint.id}`, {
            body: { labels: { role: 'web' } },
          });
          await drop(lab, 'fronts');
          await holds(t, 'what a removed policy permitted is denied', each(all, 'tcp/80', false));
          await drop(lab, 'shut');
          await holds(t, 'with the last policy gone all is as before', [
            ...each(all, 'tcp/80', true),
            ...each(all, 'icmp', true),
          ]);
          await isGone(t, lab);
        });
      },
      'egress, and both ends': async (t, lab) => {
        await lab.host(1).create({ name: 'red', ipv6: true });
        const wanted = {
          web: { host: 1, role: 'web' },
          near: { host: 1, role: 'front' },
          far: { host: 2, role: 'front' },
        };
        await withMembers(lab, wanted, async ({ web: server, near, far }) => {
          const fronts = { selects: role('front') };
          await put(lab, {
            name: 'out',
            ...fronts,
            egress: [{ peers: [{ endpoints: role('web') }], ports: [{ port: 80 }] }],
          });
          await holds(t, 'egress is limited, ingress and replies are not', [
            [near, server, 'tcp/80', true],
            [far, server, 'tcp/80', true],
            [near, server, 'tcp/81', false],
            [far, server, 'udp/80', false],
            [near, far, 'tcp/80', false],
            [server, near, 'tcp/81', true],
            [server, far, 'udp/80', true],
          ]);
          await put(lab, {
            name: 'in',
            ...web,
            ingress: [{ peers: [{ endpoints: role('front') }], ports: [{ port: 81 }] }],
          });
          await holds(t, 'what one end permits and the other does not is denied', [
            [near, server, 'tcp/80', false],
            [far, server, 'tcp/80', false],
            [near, server, 'tcp/81', false],
            [far, server, 'tcp/81', false],
          ]);
          await put(lab, { name: 'in', ...web, ingress: [{ ports: [{ port: 80 }] }] });
          await holds(t, 'what both permit goes', [
            [near, server, 'tcp/80', true],
            [far, server, 'tcp/80', true],
            [far, server, 'tcp/81', false],
          ]);
          await drop(lab, 'in');
          await drop(lab, 'out');
          await holds(t, 'and all without', [[far, server, 'udp/81', true]]);
          await isGone(t, lab);
        });
      },
      'between joined networks, on one host and across': async (t, lab) => {
        for (const name of ['red', 'blue']) await lab.host(1).create({ name, ipv6: true });
        await lab.host(1).json('update', 'red', '--join', 'blue');
        const wanted = {
          web: { host: 1, role: 'web', network: 'blue' },
          near: { host: 1, role: 'front' },
          far: { host: 2, role: 'front' },
          other: { host: 2, role: 'other', network: 'blue' },
        };
        await withMembers(lab, wanted, async ({ web: server, near, far, other }) => {
          await holds(t, 'all reach each other before', [
            [near, server, 'tcp/80', true],
            [far, server, 'udp/81', true],
            [server, far, 'tcp/80', true],
            [other, near, 'tcp/80', true],
          ]);
          await put(lab, {
            name: 'in',
            ...web,
            ingress: [{ peers: [{ endpoints: role('front') }], ports: [{ port: 80 }, { protocol: 'icmp' }] }],
          });
          await holds(t, 'labels of the other network count', [
            [near, server, 'tcp/80', true],
            [far, server, 'tcp/80', true],
            [far, server, 'icmp', true],
            [near, server, 'tcp/81', false],
            [far, server, 'udp/80', false],
            [other, server, 'tcp/80', false],
            [server, far, 'tcp/81', true],
            [server, near, 'udp/80', true],
          ]);
          await put(lab, { name: 'in', ...web, ingress: [{ peers: [{ networks: ['blue'] }] }] });
          await holds(t, 'and so does which network somebody is of', [
            [other, server, 'tcp/80', true],
            [near, server, 'tcp/80', false],
            [far, server, 'tcp/80', false],
          ]);
          await put(lab, { name: 'in', ...web, ingress: [{ peers: [{ networks: ['red'] }] }] });
          await put(lab, {
            name: 'out',
            selects: role('front'),
            networks: ['red'],
            egress: [{ ports: [{ port: 90 }] }],
          });
          await holds(t, 'both ends must allow', [
            [near, server, 'tcp/90', true],
            [far, server, 'tcp/90', true],
            [far, server, 'tcp/80', false],
            [other, server, 'tcp/90', false],
            [server, far, 'udp/80', true],
          ]);
          await drop(lab, 'in');
          await drop(lab, 'out');
          await holds(t, 'and all is as it was', [[far, server, 'udp/81', true]]);
          await isGone(t, lab);
        });
      },
      'networks and CIDRs with exceptions, for containers and for clients from outside': async (t, lab) => {
        await lab.host(1).create({ name: 'red', ipv6: true });
        await lab.host(1).create({ name: 'blue', ipv6: true });
        const outside = await Talker.start(enterArgs(netnsPath(`${lab.prefix}lan`)), ports);
        const wanted = {
          web: { host: 1, role: 'web' },
          near: { host: 1, role: 'front' },
          far: { host: 2, role: 'front' },
          blue: { host: 1, role: 'web', network: 'blue' },
          azure: { host: 1, role: 'front', network: 'blue' },
        };
        try {
          await withMembers(lab, wanted, async ({ web: server, near, far, blue, azure }) => {
            await put(lab, { name: 'p', ...web, ingress: [{ peers: [{ networks: ['red'] }] }] });
            await holds(t, 'a network', [
              [near, server, 'tcp/80', true],
              [far, server, 'tcp/80', true],
              [azure, blue, 'tcp/80', false],
            ]);
            await put(lab, { name: 'p', networks: ['blue'], ...web, ingress: [] });
            await holds(t, 'a policy of one network only', [
              [near, server, 'tcp/80', true],
              [azure, blue, 'tcp/80', false],
            ]);
            const subnets = (await lab.host(1).json<{ subnets: { subnet: string }[] }[]>('inspect', 'red')).flatMap(
              (each) => each.subnets.map(({ subnet }) => subnet),
            );
            t.equal(subnets.length, 2);
            const single = (address: string): string => `${address}/${address.includes(':') ? 128 : 32}`;
            await put(lab, {
              name: 'p',
              ...web,
              ingress: [
                {
                  peers: subnets.map((cidr) => ({
                    cidr,
                    except: far.endpoint.addresses
                      .filter((address) => address.includes(':') === cidr.includes(':'))
                      .map(single),
                  })),
                },
              ],
            });
            await holds(t, 'a subnet, but for what is excepted', [
              [near, server, 'tcp/80', true],
              [far, server, 'tcp/80', false],
              [azure, blue, 'tcp/80', false],
            ]);

            await lab.host(1).api.call('PATCH', `/v1/agent/endpoints/${server.endpoint.id}`, {
              body: { ports: [{ hostPort: 8080, port: 80 }] },
            });
            const published = [underlayAddress(11), underlayAddress6(11)].map((address): Probe => ({
              protocol: 'tcp',
              address,
              port: 8080,
            }));
            const seen = async (what: string, isReached: boolean): Promise<void> => {
              const wantedText = `${isReached},${isReached}`;
              const look = async (): Promise<boolean> => (await outside.probe(published)).join() === wantedText;
              await t.resolves(waitFor(what, look, 20_000), what);
            };
            await seen('a client outside the subnet is denied a published port', false);
            await put(lab, {
              name: 'p',
              ...web,
              ingress: [
                { peers: [{ cidr: `${underlayAddress(1)}/32` }, { cidr: '2001:db8::/32' }], ports: [{ port: 80 }] },
              ],
            });
            await seen('and permitted by its own address and the port of the container', true);
            await put(lab, {
              name: 'p',
              ...web,
              ingress: [
                {
                  peers: [
                    { cidr: '0.0.0.0/0', except: [`${underlayAddress(1)}/32`] },
                    { cidr: '::/0', except: ['2001:db8::/32'] },
                  ],
                },
              ],
            });
            await seen('and denied by an exception', false);

            const toOutside: Probe = { protocol: 'tcp', address: underlayAddress(1), port: 81 };
            const open = async (): Promise<boolean> => (await server.talker.probe([toOutside])).join() === 'true';
            await t.resolves(waitFor('the way out', open), 'egress is nobody’s business yet');
            await put(lab, {
              name: 'p',
              ...web,
              egress: [{ peers: [{ cidr: '198.18.0.0/24', except: [`${underlayAddress(1)}/32`] }] }],
            });
            const denied = async (): Promise<boolean> => (await server.talker.probe([toOutside])).join() === 'false';
            await t.resolves(waitFor('the way out to be shut', denied), 'egress to an exception is denied');
            await put(lab, {
              name: 'p',
              ...web,
              egress: [{ peers: [{ cidr: '198.18.0.0/24' }], ports: [{ port: 81 }] }],
            });
            await t.resolves(waitFor('the way out to be open', open), 'and permitted without');
            await drop(lab, 'p');
            await isGone(t, lab);
          });
        } finally {
          await outside.end();
        }
      },
      'policies hold from the first packet, without the agent, and against the hands of others': async (t, lab) => {
        // So that the bridge's own switch alone decides.
        for (const name of ['iptables', 'ip6tables'])
          await lab.host(1).exec('busybox', 'sysctl', '-w', `net.bridge.bridge-nf-call-${name}=0`);
        await lab.host(1).create({ name: 'red', ipv6: true });
        await lab.host(1).create({ name: 'lan', driver: 'macvlan', options: { parent: 'eth0' } });
        const refused = { code: 'ERR_DRIVER_UNSUPPORTED', message: /networks\[0\]/ };
        await t.rejects(
          put(lab, { name: 'shut', networks: ['lan'], ...web, ingress: [] }),
          refused,
          'macvlan is refused',
        );
        const { warnings } = (await put(lab, { name: 'shut', ...web, ingress: [] })) as PolicyView;
        t.match(warnings, [/selects no endpoint/], 'a policy that selects nothing is allowed, with a warning');
        await withMembers(
          lab,
          { web: { host: 1, role: 'web' }, front: { host: 1, role: 'front' } },
          async (members) => {
            const { web: server, front } = members;
            const probes = ['tcp/80', 'udp/80', 'icmp'].flatMap((what) => probesOf(server, what));
            const none = probes.map(() => false);
            t.same(await front.talker.probe(probes), none, 'denied at once after the attach');
            await holds(t, 'and connected otherwise', [[server, front, 'tcp/80', true]]);

            const mended = async (...harm: string[]): Promise<void> => {
              // The last look takes as long as a denied probe is waited for.
              const boundMs = 2000 + patienceMs;
              const back = async (): Promise<boolean> => (await front.talker.probe(probes)).every((answer) => !answer);
              const tookMs = await quickest(boundMs, async () => {
                t.same(await front.talker.probe(probes), none, 'denied before');
                t.equal((await lab.host(1).exec(...harm)).status, 0, harm.join(' '));
                const startedMs = performance.now();
                await waitFor('the policy to be back', back);
                return performance.now() - startedMs;
              });
              t.ok(tookMs < boundMs, `is mended within 2 s (${tookMs.toFixed(0)} ms with the looking)`);
            };
            await mended('nft', 'flush', 'ruleset');
            await mended('nft', 'delete', 'table', 'inet', 'tsnet-policy');
            await mended('nft', 'flush', 'map', 'inet', 'tsnet-policy', 'in4');
            const bridge =
              (await lab.host(1).exec('ip', '-br', 'link', 'show', 'type', 'bridge')).stdout.split(' ')[0] ?? '';
            await mended(
              'ip',
              'link',
              'set',
              bridge,
              'type',
              'bridge',
              'nf_call_iptables',
              '0',
              'nf_call_ip6tables',
              '0',
            );

            await lab.host(1).agent.kill();
            t.same(await front.talker.probe(probes), none, 'while no agent runs');
            await lab.host(1).startAgent({ until: 'answering' });
            t.same(await front.talker.probe(probes), none, 'and when it has come back');
            await drop(lab, 'shut');
            await holds(t, 'until the policy is removed', [[front, server, 'tcp/80', true]]);
            await isGone(t, lab, [lab.host(1)]);
          },
        );
      },
    },
  ),
);
