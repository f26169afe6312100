import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { EndpointView } from '../../core/api/endpoint.js';
import type { PolicyAnswer, PolicyView } from '../../core/api/policy.js';
import { isErrorBody } from '../../core/errors.js';
import type { Lab } from '../lab/lab.js';
import { place } from '../lab/place.js';
import { Talker } from '../lab/talker.js';
import { underlayAddress, underlayAddress6 } from '../lab/underlay.js';
import { waitFor } from '../lab/wait.js';
import { withSharedLab } from '../lab/with-lab.js';

interface Member {
  readonly endpoint: EndpointView;
  readonly talker: Talker;
}

/** Asks what the policies say, and sends what was asked about; both by address, from the first end to the second. */
async function askAndSend(
  lab: Lab,
  [from, to]: readonly [Member, Member],
  what: string,
): Promise<{ said: boolean[]; done: boolean[]; rules: (string | null)[][] }> {
  const answers = await lab
    .host(2)
    .json<PolicyAnswer[]>('policy', 'explain', from.endpoint.name ?? '', to.endpoint.name ?? '', what);
  const [port, protocol] = what === 'icmp' ? ['0', 'icmp'] : what.split('/');
  const probes = answers.map(({ to: address }) => ({ protocol: protocol as 'tcp', address, port: Number(port) }));
  return {
    said: answers.map(({ allowed }) => allowed),
    done: await from.talker.probe(probes),
    rules: answers.map(({ egress, ingress }) => [egress.rule, ingress.rule]),
  };
}

const file = `
name: store-in
networks: [back]
selects: { matchLabels: { role: store } }
ingress:
  - peers: [{ endpoints: { matchLabels: { role: audit } } }]
    ports: [{ protocol: icmp }]
  - peers: [{ endpoints: { matchLabels: { role: front } } }]
    ports: [{ port: 80 }, { protocol: udp, port: 80, endPort: 81 }]
---
name: front-out
selects: { matchLabels: { role: front } }
egress:
  - peers: [{ networks: [back] }]
    ports: [{ port: 80 }, { port: 81 }]
`;

t.test('policies by the commands', (t) =>
  withSharedLab(
    t,
    { hosts: 2 },
    {
      'explain says what packets meet, and which rule decides': async (t, lab) => {
        const host = lab.host(1);
        await host.create({ name: 'back', ipv6: true });
        const members: Member[] = [];
        try {
          const join = async (number: number, role: string): Promise<Member> => {
            const sandbox = await lab.sandbox();
            const more = { name: role, labels: { role } };
            const endpoint = await lab.host(number).attach('back', sandbox, more);
            const member = { endpoint, talker: await Talker.start(sandbox.enter, [80, 81]) };
            members.push(member);
            return member;
          };
          const [store, front, audit] = [await join(1, 'store'), await join(1, 'front'), await join(2, 'audit')];
          for (const each of lab.hosts) await each.published();
          const path = fileOf(lab, 'policies.yaml');
          writeFileSync(path, file);
          const made = await host.json<PolicyView[]>('policy', 'create', '-f', path);
          t.same(
            made.map(({ name, selected, warnings }) => [name, selected, warnings]),
            [
              ['store-in', 1, []],
              ['front-out', 1, []],
            ],
          );
          t.match((await host.tsnet('policy', 'ls')).stdout, /^front-out .*role=front\s+1\s+-\s+1$/m);
          t.match((await host.tsnet('policy', 'inspect', 'store-in', '-o', 'yaml')).stdout, /endPort: 81/);

          const rows: readonly (readonly [readonly [Member, Member], string, boolean, readonly (string | null)[]])[] = [
            [[front, store], '80/tcp', true, ['front-out egress[0]', 'store-in ingress[1]']],
            [[front, store], '81/tcp', false, ['front-out egress[0]', null]],
            [[front, store], '80/udp', false, [null, 'store-in ingress[1]']],
            [[front, store], 'icmp', false, [null, null]],
            [[audit, store], 'icmp', true, [null, 'store-in ingress[0]']],
            [[audit, store], '80/tcp', false, [null, null]],
            [[store, audit], '80/tcp', true, [null, null]],
            [[front, audit], '81/tcp', true, ['front-out egress[0]', null]],
            [[front, audit], '81/udp', false, [null, null]],
            [[audit, front], '80/udp', true, [null, null]],
          ];
          for (const [ends, what, isAllowed, rule] of rows) {
            const wanted = { said: [isAllowed, isAllowed], done: [isAllowed, isAllowed], rules: [rule, rule] };
            const names = ends.map(({ endpoint }) => endpoint.name).join(' → ');
            let found: Awaited<ReturnType<typeof askAndSend>> | undefined;
            await waitFor(`${names} ${what}`, async () => {
              found = await askAndSend(lab, ends, what);
              return JSON.stringify(found) === JSON.stringify(wanted);
            }).catch(() => undefined);
            t.same(found, wanted, `${names} ${what}, in both families`);
          }
          const outside = await host.json<PolicyAnswer[]>('policy', 'explain', underlayAddress(1), 'store', '80/tcp');
          t.match(outside, [{ allowed: false, ingress: { policies: ['store-in'] }, egress: { policies: [] } }]);
          const text = (await host.tsnet('policy', 'explain', 'audit', 'store', '80')).stdout;
          t.match(text, /\bno\b.*selected for ingress by store-in, and no rule of it allows it/, 'as people read it');

          t.equal((await host.tsnet('policy', 'rm', 'front-out', 'store-in')).stdout, 'front-out\nstore-in\n');
          await waitFor('all to be open', async () =>
            (await askAndSend(lab, [audit, store], '80/tcp')).done.every(Boolean),
          );
          t.same(await host.json('policy', 'ls'), []);
        } finally {
          for (const { talker } of members) await talker.end();
        }
      },
      'what is wrong is refused as a whole, with a typed error and a hint': (t, lab) => checkRefusals(t, lab),
      'a policy by options is enforced for clients of a published port, and one that selects nothing is told of':
        async (t, lab) => {
          const host = lab.host(1);
          await host.create({ name: 'back', ipv6: true });
          const sandbox = await lab.sandbox();
          await host.attach('back', sandbox, {
            name: 'web',
            labels: { role: 'web' },
            ports: [{ hostPort: 8080, port: 80 }],
          });
          await host.published();
          const server = await Talker.start(sandbox.enter, [80]);
          const [lan, other] = [
            await Talker.start(place(lab, 'lan').enter, []),
            await Talker.start(place(lab, 'h2').enter, []),
          ];
          const probes = [underlayAddress(11), underlayAddress6(11)].map((address) => ({
            protocol: 'tcp' as const,
            address,
            port: 8080,
          }));
          const become = async (what: string, wanted: readonly (readonly [Talker, boolean])[]): Promise<void> => {
            const look = async (): Promise<boolean> => {
              const seen = await Promise.all(wanted.map(([talker]) => talker.probe(probes)));
              return seen.every((answers, at) => answers.every((answer) => answer === wanted[at]?.[1]));
            };
            await t.resolves(waitFor(what, look, 20_000), what);
          };
          try {
            await become('all reach it before', [
              [lan, true],
              [other, true],
            ]);
            const own = ['--from', `${underlayAddress(12)}/32`, '--from', `${underlayAddress6(12)}/128`];
            const made = await host.tsnet('policy', 'create', 'web', '--select', 'role=web', ...own, '--port', '80');
            t.equal(made.stderr, '', 'no warning');
            await become('only another host does', [
              [lan, false],
              [other, true],
            ]);
            await host.json('policy', 'create', 'web', '--replace', '--select', 'role=web', ...own, '--port', '8080');
            await become('it is the container’s port that counts', [
              [lan, false],
              [other, false],
            ]);
            const none = await host.tsnet('policy', 'create', 'idle', '--select', 'role=nobody', '--deny-ingress');
            t.equal(none.status, 0);
            t.match(none.stderr, /^warning: policy idle: .*selects no endpoint/);
            const astray = await host.tsnet('policy', 'create', 'astray', '--network', 'nowhere', '--deny-egress');
            t.match(astray.stderr, /^warning: policy astray: .*nowhere/m, 'as is a network that is not there');
          } finally {
            for (const talker of [server, lan, other]) await talker.end();
          }
        },
    },
  ),
);

const fileOf = (lab: Lab, name: string): string => join(lab.host(1).dataDir, name);

const good = 'name: good\nselects: {}\ningress: []\n';

/** Commands that are refused: each with its error, and nothing made. */
async function checkRefusals(t: Test, lab: Lab): Promise<void> {
  const host = lab.host(1);
  await host.create({ name: 'red' });
  await host.create({ name: 'lan', driver: 'macvlan', options: { parent: 'eth0' } });
  const path = fileOf(lab, 'bad.yaml');
  const files: readonly (readonly [text: string, code: string, message: RegExp])[] = [
    [`${good}---\nname: b\nselects: {}\ningres: []\n`, 'ERR_INVALID_POLICY', /bad\.yaml:7: ingres: /],
    [
      `${good}---\nname: b\nselects: {}\negress: [{ ports: [{ port: 0 }] }]\n`,
      'ERR_INVALID_POLICY',
      /:7: egress\[0\]\.ports\[0\]\.port/,
    ],
    [
      `${good}---\nname: b\nselects: {}\negress: [{ ports: [{ port: 90, endPort: 80 }] }]\n`,
      'ERR_INVALID_POLICY',
      /:7: .*endPort/,
    ],
    [
      `${good}---\nname: b\nselects: {}\negress: [{ peers: [{ cidr: 10.0.0.0/8, except: [11.0.0.0/9] }] }]\n`,
      'ERR_INVALID_POLICY',
      /:7: .*except/,
    ],
    [`${good}---\nname: good\nselects: {}\negress: []\n`, 'ERR_INVALID_POLICY', /:5: name: .*twice/],
    [`${good}---\nname: b\nselects: {\n`, 'ERR_INVALID_POLICY', /bad\.yaml:\d+: /],
    // What only the controller can say comes when another policy of the file has been made.
    [`${good}---\nname: b\nselects: {}\nnetworks: [lan]\negress: []\n`, 'ERR_DRIVER_UNSUPPORTED', /networks\[0\]/],
    [`${good}---\nname: held\nselects: {}\negress: []\n`, 'ERR_POLICY_EXISTS', /"held"/],
  ];
  await host.json('policy', 'create', 'held', '--select', 'role=held', '--deny-ingress');
  const before = await host.json<PolicyView[]>('policy', 'ls');
  const refused = async (code: string, message: RegExp, ...args: string[]): Promise<void> => {
    const { status, stderr } = await host.tsnet('policy', ...args, '-o', 'json');
    t.not(status, 0, `tsnet policy ${args.join(' ')} is refused`);
    const body: unknown = JSON.parse(stderr);
    if (!isErrorBody(body)) throw new Error(`not an error body: ${JSON.stringify(body)}`);
    t.equal(body.code, code);
    t.match(body.message, message);
    t.match(body.hint, /./, 'and says what to do');
  };
  for (const [text, code, message] of files) {
    writeFileSync(path, text);
    await refused(code, message, 'create', '-f', path);
  }
  const options: readonly (readonly [code: string, message: RegExp, ...args: string[]])[] = [
    ['ERR_USAGE', /cannot be read/, 'create', '-f', fileOf(lab, 'nothing.yaml')],
    ['ERR_USAGE', /"80\/tcpp" is no port/, 'create', 'p', '--from', 'any', '--port', '80/tcpp'],
    ['ERR_INVALID_POLICY', /port/, 'create', 'p', '--from', 'any', '--port', '70000'],
    ['ERR_INVALID_POLICY', /cidr/, 'create', 'p', '--from', '10.0.0.1/8'],
    ['ERR_USAGE', /"front" is no peer/, 'create', 'p', '--from', 'front'],
    ['ERR_USAGE', /--from/, 'create', 'p', '--select', 'role=a'],
    ['ERR_POLICY_EXISTS', /"held"/, 'create', 'held', '--deny-ingress'],
    ['ERR_POLICY_UNKNOWN', /"gone"/, 'inspect', 'gone'],
    ['ERR_POLICY_UNKNOWN', /"gone"/, 'rm', 'gone'],
    ['ERR_ENDPOINT_UNKNOWN', /"nobody"/, 'explain', 'nobody', '10.0.0.1', '80/tcp'],
    ['ERR_USAGE', /70000/, 'explain', '10.0.0.2', '10.0.0.1', '70000/tcp'],
    ['ERR_USAGE', /80\/icmp/, 'explain', '10.0.0.2', '10.0.0.1', '80/icmp'],
  ];
  for (const [code, message, ...args] of options) await refused(code, message, ...args);
  const shown = await host.tsnet('policy', 'inspect', 'gone');
  t.match(shown.stderr, /^error: .*"gone".*\nhint: .+/, 'people see an error and a hint');
  t.same(await host.json('policy', 'ls'), before, 'no policy has appeared or changed');

  writeFileSync(path, 'name: held\nselects: {}\negress: []\n---\nname: b\nselects: {}\nnetworks: [lan]\negress: []\n');
  await refused('ERR_DRIVER_UNSUPPORTED', /networks/, 'create', '--replace', '-f', path);
  const [{ createdAt = '', selects = {} } = {}] = await host.json<Partial<PolicyView>[]>('policy', 'ls');
  t.same({ createdAt, selects }, { createdAt: before[0]?.createdAt, selects: before[0]?.selects }, 'nor by --replace');
}
