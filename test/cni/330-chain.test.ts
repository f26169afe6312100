import { join } from 'node:path';
import t from 'tap';
import { enterArgs, netnsPath } from '../lab/netns.js';
import { canPing, echoBytes, listenIn, mustExecIn, reaches, type Sandbox } from '../lab/sandbox.js';
import type { Lab } from '../lab/lab.js';
import { waitFor } from '../lab/wait.js';
import { withSharedLab } from '../lab/with-lab.js';
import { Chain, type PluginConfig } from './chain.js';
import { measureLimitedBps } from './iperf.js';
import { addressOf, pathOf, Runtime } from './runtime.js';

const rateBps = 20_000_000;
const isNear = (measured: number): boolean => Math.abs(measured / rateBps - 1) < 0.1;
const mbps = (measured: number): string => `${(measured / 1e6).toFixed(2)} of ${rateBps / 1e6} Mbit/s`;

const hostOf = (lab: Lab, number: number): Sandbox => ({
  name: `h${number}`,
  target: '',
  enter: enterArgs(netnsPath(lab.host(number).netns)),
});

/** Starts a server in a sandbox; it ends with the lab. */
async function iperfServer(lab: Lab, sandbox: Sandbox): Promise<void> {
  const name = `iperf3 ${sandbox.name}`;
  lab.startDaemon({ name, logPath: lab.logPath(name), argv: [...sandbox.enter, 'iperf3', '-s'], env: {} });
  await waitFor('iperf3 to listen', async () => (await mustExecIn(sandbox, 'ss', '-Hltn')).includes(':5201'));
}

t.test('what a runtime asks for beside the network', (t) =>
  withSharedLab(
    t,
    { hosts: 2 },
    {
      'bandwidth limits of a runtime hold within 10 % in both directions': async (t, lab) => {
        await lab.host(1).create({ name: 'net' });
        const [limited, far] = [await lab.sandbox(), await lab.sandbox()];
        await lab.host(2).attach('net', far);
        const bandwidth = {
          ingressRate: rateBps,
          ingressBurst: 1_000_000,
          egressRate: rateBps,
          egressBurst: 1_000_000,
        };
        const result = await new Runtime(lab.host(1)).add('c1', limited, { runtimeConfig: { bandwidth } });
        await iperfServer(lab, limited);
        await reaches(far, addressOf(result));
        const into = await measureLimitedBps(rateBps, far, addressOf(result));
        t.ok(isNear(into), `into it: ${mbps(into)}`);
        const out = await measureLimitedBps(rateBps, far, addressOf(result), '-R');
        t.ok(isNear(out), `out of it: ${mbps(out)}`);
      },
      'Debian’s bandwidth, tuning, firewall and portmap work behind tsnet': async (t, lab) => {
        const host = lab.host(1);
        await host.create({ name: 'net' });
        const far = await lab.sandbox();
        await lab.host(2).attach('net', far);
        const rules = async (): Promise<string> => (await host.exec('iptables-save')).stdout;
        const chain = async (
          ...plugins: PluginConfig[]
        ): Promise<{ chain: Chain; sandbox: Sandbox; address: string }> => {
          const sandbox = await lab.sandbox();
          const made = new Chain(host, [{ type: 'tsnet' }, ...plugins], { id: sandbox.name, netns: pathOf(sandbox) });
          const result = await made.add();
          t.same(result.interfaces.map(({ name }) => name.slice(0, 4)).slice(0, 3), ['tsb-', 'tsv-', 'eth0']);
          await made.check();
          return { chain: made, sandbox, address: addressOf(result) };
        };

        await t.test('bandwidth', async (t) => {
          const limits = { ingressRate: rateBps, ingressBurst: 1_000_000, egressRate: rateBps, egressBurst: 1_000_000 };
          const { chain: made, sandbox, address } = await chain({ type: 'bandwidth', ...limits });
          await iperfServer(lab, sandbox);
          await reaches(far, address);
          const into = await measureLimitedBps(rateBps, far, address);
          t.ok(isNear(into), `into it: ${mbps(into)}`);
          const out = await measureLimitedBps(rateBps, far, address, '-R');
          t.ok(isNear(out), `out of it: ${mbps(out)}`);
          await made.del();
          t.notMatch((await host.exec('ip', 'link')).stdout, /bwp/, 'its device goes');
        });

        await t.test('tuning', async (t) => {
          const sysctl = { 'net.ipv4.conf.eth0.arp_notify': '1' };
          const dataDir = join(lab.folder, 'tuning');
          const { chain: made, sandbox, address } = await chain({ type: 'tuning', mtu: 1300, sysctl, dataDir });
          t.match(await mustExecIn(sandbox, 'ip', 'link', 'show', 'dev', 'eth0'), /mtu 1300/);
          t.equal((await mustExecIn(sandbox, 'sysctl', '-n', 'net.ipv4.conf.eth0.arp_notify')).trim(), '1');
          await reaches(far, address);
          await made.del();
        });

        await t.test('firewall', async (t) => {
          const { chain: made, sandbox, address } = await chain({ type: 'firewall', backend: 'iptables' });
          t.match(await rules(), new RegExp(`-A CNI-FORWARD -s ${address}/32 -j ACCEPT`));
          const outside = lab.host(2).options.address;
          await host.exec('iptables', '-P', 'FORWARD', 'DROP');
          t.equal(await canPing(sandbox, outside), true, 'the way out stays open where all else is closed');
          await host.exec('iptables', '-P', 'FORWARD', 'ACCEPT');
          await made.del();
          t.notMatch(await rules(), new RegExp(address), 'its rules go');
        });

        await t.test('portmap', async (t) => {
          const portMappings = [{ hostPort: 18_081, containerPort: 7000, protocol: 'tcp' }];
          const runtimeConfig = { portMappings };
          const { chain: made, sandbox } = await chain({ type: 'portmap', snat: true, runtimeConfig });
          const listener = await listenIn(sandbox, 'listen-tcp', 7000);
          const to = { address: host.options.address, port: 18_081, sizeBytes: 50_000 };
          const said = await echoBytes(hostOf(lab, 2), 'tcp', to);
          t.equal(said.receivedBytes, 50_000, 'the port leads to the sandbox');
          await listener.end();
          await made.del();
          t.notMatch(await rules(), /18081/, 'its rules go');
        });
      },
    },
  ),
);
