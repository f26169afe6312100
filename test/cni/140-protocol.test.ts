import t from 'tap';
import { CniError } from '../../cni-plugin/error.js';
import { CniPlugin, type CniAnswer } from '../../cni-plugin/plugin.js';
import type { NetworkCreate } from '../../core/api/network.js';
import type {
  Attached,
  Attacher,
  AttacherRequest,
  AttachmentFound,
  AttachmentKey,
  AttachmentListed,
  Readiness,
} from '../../core/attacher.js';
import { TsnetError } from '../../core/errors.js';
import { newLogger } from '../../lib/log.js';
import { waitFor } from '../lab/wait.js';
import { cniEnv } from './program.js';

const log = newLogger('test', 'silent');

const attached: Attached = {
  endpoint: '0123456789abcdef',
  isNew: true,
  link: { name: 'eth0', mac: '02:00:00:00:00:03', mtu: 1450 },
  hostLink: { name: 'tsv-0123456789', mac: '02:00:00:00:00:02', ifindex: 7 },
  bridge: { name: 'tsb-01234567', mac: '02:00:00:00:00:01' },
  addresses: [{ address: '10.1.0.5/16', gateway: '10.1.0.1' }],
  routes: [{ dst: '0.0.0.0/0', gateway: '10.1.0.1' }],
  dns: null,
  labels: {},
};

/** An agent that does what it is told and remembers in which order. */
class FakeAttacher implements Attacher {
  readonly calls: string[] = [];
  readonly requests: AttacherRequest[] = [];
  listed: AttachmentListed[] = [];
  found: AttachmentFound | null = null;
  ready: Readiness = { isReady: true };
  onAttach: () => Promise<Partial<Attached>> = () => Promise.resolve({});

  async attach(request: AttacherRequest): Promise<Attached> {
    this.calls.push(`attach ${request.id}`);
    this.requests.push(request);
    const more = await this.onAttach();
    this.calls.push(`attached ${request.id}`);
    return { ...attached, ...more };
  }
  reserve(): Promise<Attached> {
    this.calls.push('reserve');
    return Promise.resolve({ ...attached, hostLink: null, bridge: null });
  }
  detach({ id, ifname }: AttachmentKey): Promise<void> {
    this.calls.push(`detach ${id} ${ifname}`);
    return Promise.resolve();
  }
  find(): Promise<AttachmentFound | null> {
    return Promise.resolve(this.found);
  }
  list(): Promise<AttachmentListed[]> {
    return Promise.resolve(this.listed);
  }
  inspect(): Promise<never> {
    return Promise.reject(new Error('nobody looks'));
  }
  ensureNetwork(network: NetworkCreate): Promise<void> {
    this.calls.push(`create ${JSON.stringify(network)}`);
    return Promise.resolve();
  }
  readiness(): Promise<Readiness> {
    return Promise.resolve(this.ready);
  }
}

class Rig {
  readonly attacher = new FakeAttacher();
  readonly delegated: string[] = [];
  delegateAnswer: () => Promise<string> = () =>
    Promise.resolve(
      JSON.stringify({ cniVersion: '0.2.0', ip4: { ip: '10.1.0.9/16' }, dns: { nameservers: ['1.1.1.1'] } }),
    );
  readonly plugin = new CniPlugin({
    attacher: this.attacher,
    delegate: (command) => {
      this.delegated.push(command);
      return command === 'ADD' ? this.delegateAnswer() : Promise.resolve('');
    },
    log,
  });

  call(
    command: string,
    config: object = {},
    more: { id?: string; isGone?: () => boolean; args?: string } = {},
  ): Promise<CniAnswer> {
    const { id = 'c1', isGone = () => false, args = '' } = more;
    const environment = cniEnv(command, { id, netns: '/run/netns/x', args });
    const stdin = JSON.stringify({ cniVersion: '1.1.0', name: 'net', type: 'tsnet', ...config });
    return this.plugin.call({ environment, stdin }, { isGone });
  }
}

const errorOf = (answer: CniAnswer): unknown => JSON.parse(answer.stdout);
const other = { ipam: { type: 'other' } };

t.test('an ADD whose caller has gone leaves nothing', async (t) => {
  const rig = new Rig();
  let isGone = false;
  rig.attacher.onAttach = () => {
    isGone = true;
    return Promise.resolve({});
  };
  t.match(errorOf(await rig.call('ADD', other, { isGone: () => isGone })), { code: 11 });
  t.same(rig.attacher.calls, ['attach c1', 'attached c1', 'detach c1 eth0']);
  t.same(rig.delegated, ['ADD', 'DEL']);
  rig.attacher.onAttach = () => Promise.resolve({ isNew: false });
  rig.attacher.calls.length = 0;
  isGone = false;
  let asked = 0;
  await rig.call('ADD', {}, { isGone: () => (asked += 1) > 1 });
  t.same(rig.attacher.calls, ['attach c1', 'attached c1'], 'what was there before stays');
  rig.attacher.calls.length = 0;
  await rig.call('ADD', {}, { isGone: () => true });
  t.same(rig.attacher.calls, [], 'who is gone before his turn gets none');
});

t.test('calls for one container are worked on in order, others in parallel', async (t) => {
  const rig = new Rig();
  const waiting: (() => void)[] = [];
  rig.attacher.onAttach = () => new Promise((resolve) => waiting.push(() => resolve({})));
  const calls = [rig.call('ADD'), rig.call('DEL'), rig.call('ADD', {}, { id: 'c2' })];
  await waitFor('both to have begun', () => waiting.length === 2);
  t.same(rig.attacher.calls, ['attach c1', 'attach c2']);
  for (const release of waiting) release();
  await Promise.all(calls);
  t.ok(rig.attacher.calls.indexOf('detach c1 eth0') > rig.attacher.calls.indexOf('attached c1'));
});

t.test('a network that is missing is made where the configuration says how', async (t) => {
  const rig = new Rig();
  let isThere = false;
  rig.attacher.onAttach = () => {
    if (isThere) return Promise.resolve({});
    isThere = true;
    return Promise.reject(new TsnetError('ERR_NETWORK_UNKNOWN', 'there is no network "net"'));
  };
  const made = await rig.call('ADD', {
    network: 'front',
    subnets: ['10.1.0.0/16', { Subnet: 'fd00::/64', gateway: 'fd00::1' }],
    driver: 'overlay',
    options: { a: 'b' },
  });
  t.equal(made.exit, 0);
  t.same(rig.attacher.calls, [
    'attach c1',
    'create {"name":"front","driver":"overlay","subnets":[{"subnet":"10.1.0.0/16"},{"subnet":"fd00::/64","gateway":"fd00::1"}],"options":{"a":"b"}}',
    'attach c1',
    'attached c1',
  ]);
  isThere = false;
  t.match(errorOf(await rig.call('ADD')), { code: 7, msg: /there is no network "net"/, details: /tsnet create net/ });
  const cause = new TsnetError('ERR_CONTROLLER_UNREACHABLE', 'nobody answers');
  rig.attacher.onAttach = () => Promise.reject(new TsnetError('ERR_NETWORK_UNKNOWN', 'not known here', { cause }));
  t.match(errorOf(await rig.call('ADD')), { code: 11, msg: 'not known here' }, 'while nobody can be asked');
});

t.test('another IPAM plugin gives the addresses, and takes them back when the attach fails', async (t) => {
  const rig = new Rig();
  const added = await rig.call('ADD', other);
  t.same(rig.attacher.requests[0]?.addresses, ['10.1.0.9']);
  t.match(errorOf(added), { dns: { nameservers: ['1.1.1.1'] } });
  rig.attacher.onAttach = () => Promise.reject(new TsnetError('ERR_ADDRESS_IN_USE', 'taken'));
  t.match(errorOf(await rig.call('ADD', other)), { code: 100, msg: 'taken' });
  t.same(rig.delegated, ['ADD', 'ADD', 'DEL']);
  for (const answer of ['{}', '{"ips":[]}', 'no JSON', '{"ips":[{"address":5}]}']) {
    rig.delegateAnswer = () => Promise.resolve(answer);
    t.equal((await rig.call('ADD', other)).exit, 1, answer);
    t.equal(rig.delegated.at(-1), 'DEL', answer);
  }
  rig.delegateAnswer = () => Promise.reject(new CniError(11, 'later'));
  t.match(errorOf(await rig.call('ADD', other)), { code: 11, msg: 'later' }, 'its error is passed on');
  rig.attacher.onAttach = () => Promise.resolve({ isNew: false });
  rig.attacher.found = { ...attached, isNew: false, isInTarget: true };
  rig.delegated.length = 0;
  t.equal((await rig.call('ADD', other)).exit, 0, 'repeated in the same sandbox');
  t.same([rig.delegated, rig.attacher.requests.at(-1)?.addresses], [[], ['10.1.0.5']]);
  await rig.call('DEL', other);
  t.same(rig.delegated, ['DEL']);
});

t.test('results of the plugins before are passed through', async (t) => {
  const rig = new Rig();
  const prevResult = {
    cniVersion: '1.1.0',
    interfaces: [{ name: 'lo', sandbox: '/run/netns/x' }],
    ips: [{ address: '127.0.0.1/8', interface: 0 }],
  };
  const answer = errorOf(await rig.call('ADD', { prevResult })) as { interfaces: object[]; ips: object[] };
  t.same(answer.interfaces[0], prevResult.interfaces[0]);
  t.same(answer.ips, [
    { address: '127.0.0.1/8', interface: 0 },
    { address: '10.1.0.5/16', gateway: '10.1.0.1', interface: 3 },
  ]);
});

t.test('what a call asks for has its order of precedence', async (t) => {
  const rig = new Rig();
  const request = async (config: object, args = ''): Promise<AttacherRequest | undefined> => {
    const answer = await rig.call('ADD', config, { args });
    return answer.exit === 0 ? rig.attacher.requests.at(-1) : undefined;
  };
  const mac = async (config: object, args = ''): Promise<string | undefined> => (await request(config, args))?.mac;
  const all = {
    mac: '02:00:00:00:00:0A',
    args: { cni: { mac: '02:00:00:00:00:0c' } },
    runtimeConfig: { Mac: '02:00:00:00:00:0d' },
  };
  t.equal(await mac({ mac: all.mac }), '02:00:00:00:00:0a');
  t.equal(await mac({ mac: all.mac }, 'MAC=02:00:00:00:00:0b'), '02:00:00:00:00:0b');
  t.equal(await mac({ mac: all.mac, args: all.args }, 'MAC=02:00:00:00:00:0b'), '02:00:00:00:00:0c');
  t.equal(await mac(all, 'MAC=02:00:00:00:00:0b'), '02:00:00:00:00:0d');
  t.same((await request({}, 'IP=10.1.0.7'))?.addresses, ['10.1.0.7']);
  t.same((await request({ args: { cni: { ips: ['10.1.0.8/24'] } } }, 'IP=10.1.0.7'))?.addresses, ['10.1.0.8']);
  t.same((await request({ runtimeConfig: { ips: ['10.1.0.9', 'fd00::5/128'] } }, 'IP=10.1.0.7'))?.addresses, [
    '10.1.0.9',
    'fd00::5',
  ]);
  t.same((await request({ runtimeConfig: { aliases: ['Web', 'a_b', 'web'] } }))?.aliases, ['web']);
  t.same((await request({ runtimeConfig: { aliases: { net: ['web'], other: ['x'] } } }))?.aliases, ['web']);
  t.match(
    (
      await request({
        args: {
          cni: {
            labels: [
              { key: 'tier', value: 'front' },
              { key: '-', value: 'x' },
            ],
          },
        },
      })
    )?.labels,
    { tier: 'front' },
  );
  t.same(
    (
      await request({
        runtimeConfig: { portMappings: [{ hostPort: 8080, containerPort: 80, protocol: 'udp', hostIP: '10.0.0.1' }] },
      })
    )?.ports,
    [{ hostAddress: '10.0.0.1', hostPort: 8080, port: 80, protocol: 'udp' }],
  );
  const anywhere = ['0.0.0.0', '::', '', undefined].map((hostIP) => ({ hostPort: 80, containerPort: 80, hostIP }));
  t.same(
    (await request({ runtimeConfig: { portMappings: anywhere } }))?.ports,
    [{ hostAddress: null, hostPort: 80, port: 80, protocol: 'tcp' }],
    'no address in particular, in whichever way it is said',
  );
  t.same(
    (
      await request({
        runtimeConfig: { bandwidth: { ingressRate: 0, ingressBurst: 0, egressRate: 1000, egressBurst: 4294967295 } },
      })
    )?.bandwidth,
    { egressRateBps: 1000, egressBurstBytes: 536870912 },
  );
  const refused: readonly [object, RegExp][] = [
    [{ runtimeConfig: { portMappings: [{ hostPort: 0, containerPort: 80 }] } }, /hostPort: 0/],
    [{ runtimeConfig: { portMappings: [{ hostPort: 80, containerPort: 70000 }] } }, /containerPort: 70000/],
    [{ runtimeConfig: { portMappings: [{ hostPort: 80, containerPort: 80, protocol: 'icmp' }] } }, /icmp/],
    [{ runtimeConfig: { bandwidth: { ingressRate: 5 } } }, /ingressRate 5/],
    [{ runtimeConfig: { ips: 'x' } }, /runtimeConfig.ips/],
    [{ runtimeConfig: { ipRanges: [{}] } }, /ipRanges\[0\]/],
    [{ ipam: { type: '../x' } }, /ipam\.type/],
    [{ driver: 'magic' }, /magic/],
  ];
  for (const [config, msg] of refused) t.match(errorOf(await rig.call('ADD', config)), { code: 7, msg });
  rig.attacher.onAttach = () => Promise.reject(new TsnetError('ERR_DRIVER_UNSUPPORTED', 'macvlan has no ports'));
  const ports = { runtimeConfig: { portMappings: [{ hostPort: 8080, containerPort: 80 }] } };
  t.match(errorOf(await rig.call('ADD', ports)), { code: 2, msg: /portMappings.*8080.*macvlan has no ports/ });
  t.match(errorOf(await rig.call('ADD', {}, { args: 'foo' })), { code: 4, msg: 'ARGS: invalid pair "foo"' });
});

t.test('GC goes on past failures and reports them together; STATUS has two codes', async (t) => {
  const rig = new Rig();
  const key = (id: string): AttachmentKey => ({ network: 'net', id, ifname: 'eth0' });
  rig.attacher.listed = ['a', 'b', 'c', 'd'].map((id) => ({ key: key(id), labels: {}, isSandboxAlive: id === 'd' }));
  rig.attacher.detach = ({ id }) => {
    rig.attacher.calls.push(id);
    return id === 'a' ? Promise.reject(new TsnetError('ERR_KERNEL', 'stuck')) : Promise.resolve();
  };
  const valid = [{ containerID: 'c', ifname: 'eth0' }];
  t.match(errorOf(await rig.call('GC', { 'cni.dev/attachments': valid, ...other })), { code: 11, details: 'stuck' });
  t.same([rig.attacher.calls, rig.delegated], [['a', 'b'], ['GC']]);
  t.match(errorOf(await rig.call('GC', { 'cni.dev/valid-attachments': [5] })), { code: 7 });
  rig.attacher.calls.length = 0;
  t.match(errorOf(await rig.call('GC')), { code: 11, details: 'stuck' });
  t.same(rig.attacher.calls, ['a', 'b', 'c'], 'no list is an empty one');
  t.same(await rig.call('STATUS'), { exit: 0, stdout: '' });
  rig.attacher.ready = { isReady: false, isImpaired: false, reason: 'nothing' };
  t.match(errorOf(await rig.call('STATUS')), { code: 50, details: 'nothing' });
  t.equal((await rig.call('STATUS', { driver: 'overlay' })).exit, 0, 'a network that will be made');
  rig.attacher.ready = { isReady: false, isImpaired: true, reason: 'alone' };
  t.match(errorOf(await rig.call('STATUS', { driver: 'overlay' })), { code: 51, details: 'alone' });
});

t.test(
  'a configuration without a version has the oldest; unknown arguments are left alone; a defect is 999',
  async (t) => {
    const rig = new Rig();
    const old = errorOf(await rig.call('ADD', { cniVersion: undefined })) as Record<string, unknown>;
    t.match(old, { cniVersion: '0.1.0', ip4: { ip: '10.1.0.5/16', gateway: '10.1.0.1' } });
    t.notOk('interfaces' in old || 'ips' in old);
    const lenient = await rig.call('ADD', {}, { args: 'K8S_POD_NAME=p;ANYTHING=x' });
    t.equal(lenient.exit, 0, 'also without IgnoreUnknown, unlike the reference');
    t.equal(rig.attacher.requests.at(-1)?.name, 'p');
    rig.attacher.onAttach = () => Promise.reject(new RangeError('that should not be'));
    t.match(errorOf(await rig.call('ADD')), { cniVersion: '1.1.0', code: 999, msg: 'that should not be' });
  },
);

t.test('CHECK needs the attachment, the result of the ADD, and the sandbox of both', async (t) => {
  const rig = new Rig();
  t.match(errorOf(await rig.call('CHECK', { prevResult: {} })), { code: 102, msg: /there is no attachment/ });
  rig.attacher.found = { ...attached, isNew: false, isInTarget: true };
  t.match(errorOf(await rig.call('CHECK')), { code: 7, msg: 'Required prevResult missing' });
  t.match(errorOf(await rig.call('CHECK', { prevResult: [] })), { code: 7, msg: /prevResult/ });
  rig.attacher.found = { ...attached, isNew: false, isInTarget: false };
  t.match(errorOf(await rig.call('CHECK', { prevResult: {} })), { code: 102, msg: /another sandbox/ });
});
