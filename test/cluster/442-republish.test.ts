import t from 'tap';
import type { EndpointView } from '../../core/api/endpoint.js';
import type { PortView } from '../../core/api/port.js';
import { isErrorBody } from '../../core/errors.js';
import type { Lab } from '../lab/lab.js';
import { enterArgs, netnsPath } from '../lab/netns.js';
import { echoBytes, listenIn, type Sandbox } from '../lab/sandbox.js';
import { Traffic } from '../lab/traffic.js';
import { underlayAddress } from '../lab/underlay.js';
import { waitFor } from '../lab/wait.js';
import { withLab } from '../lab/with-lab.js';

const host = underlayAddress(11);

function place(lab: Lab, name: string): Sandbox {
  return { name, target: '', enter: enterArgs(netnsPath(`${lab.prefix}${name}`)) };
}

async function answers(lab: Lab, port: number): Promise<boolean> {
  return echoBytes(place(lab, 'lan'), 'tcp', { address: host, port, sizeBytes: 16 }).then(
    () => true,
    () => false,
  );
}

/**
 * The tracked connections that were sent to a port of the host, each by its id and by who answers: one that is made anew
 * in the memory of the one before has its id.
 */
async function flows(lab: Lab, port: number): Promise<readonly string[]> {
  const args = ['-L', '-d', host, '--orig-port-dst', String(port), '-o', 'id'];
  const both = await Promise.all(
    ['tcp', 'udp'].map((protocol) => lab.host(1).exec('conntrack', '-p', protocol, ...args)),
  );
  const lines = both.flatMap(({ stdout }) => stdout.split('\n')).filter((line) => line.includes(' id='));
  return lines.map((line) => `${/ id=(\d+)/.exec(line)?.[1]} ${/ src=.* src=(\S+)/.exec(line)?.[1]}`).sort();
}

t.test('ports of an endpoint are changed by the CLI, and what stays is not interrupted', async (t) => {
  await withLab(t, { hosts: 1 }, async (lab) => {
    const h1 = lab.host(1);
    await h1.create({ name: 'front' });
    const [web, holder] = [await lab.sandbox(), await lab.sandbox()];
    await h1.attach('front', web, { name: 'web' });
    await h1.attach('front', holder, { name: 'holder', ports: [{ hostPort: 9000, port: 80 }] });
    const set = (...args: string[]): Promise<EndpointView> => h1.json<EndpointView>('endpoint', 'set', 'web', ...args);
    const published = async (): Promise<readonly (number | string)[][]> =>
      (await h1.json<PortView[]>('port', 'ls'))
        .filter(({ name }) => name === 'web')
        .map(({ hostPort, hostPortEnd, port, protocol }) => [hostPort, hostPortEnd, port, protocol]);
    const server = await listenIn(web, 'listen-tcp', 80);
    const datagrams = await listenIn(web, 'listen-udp', 53);
    try {
      t.notOk(await answers(lab, 8080), 'nothing is published at first');
      const now = await set('-p', '8080:80', '-p', '8081:80', '-p', '5353-5354:53-54/udp');
      t.same(
        now.ports?.map(({ hostPort }) => hostPort),
        [8080, 8081, 5353],
      );
      for (const port of [8080, 8081]) t.ok(await answers(lab, port), `${port} is open`);

      const steady = new Traffic(place(lab, 'lan').enter, ['steady', host, 5353, 50]);
      await steady.expect('ready');
      await waitFor('a flow of the port that stays', async () => (await flows(lab, 5353)).length > 0);
      const staying = await flows(lab, 5353);
      t.ok((await flows(lab, 8080)).length > 0, 'connections to 8080 are tracked');
      const kept = await flows(lab, 8081);
      t.ok(kept.length > 0, 'and some to 8081');

      await set('-p', '8081:80', '-p', '5353-5354:53-54/udp');
      t.same(await published(), [
        [8081, 8081, 80, 'tcp'],
        [5353, 5354, 53, 'udp'],
      ]);
      t.notOk(await answers(lab, 8080), '8080 is closed');
      t.ok(await answers(lab, 8081), '8081 stays open');
      t.same(await flows(lab, 5353), staying, 'the flow of a port that stays is the same one');
      const left = await flows(lab, 8081);
      t.ok(
        kept.every((id) => left.includes(id)),
        'so are those of 8081',
      );
      await set('-p', '8082:80', '-p', '5353-5354:53-54/udp');
      await waitFor('entries of 8081 to go', async () => (await flows(lab, 8081)).every((id) => !kept.includes(id)));
      t.same(await flows(lab, 5353), staying, 'and no others');

      const refuse = async (code: string, message: RegExp, ...args: string[]): Promise<void> => {
        const before = await published();
        const { status, stderr } = await h1.tsnet('endpoint', 'set', 'web', ...args, '-o', 'json');
        t.not(status, 0, args.join(' '));
        const body: unknown = JSON.parse(stderr);
        if (!isErrorBody(body)) throw new Error(`not an error body: ${stderr}`);
        t.equal(body.code, code, args.join(' '));
        t.match(body.message, message);
        t.same(await published(), before, 'what was published still is');
      };
      const listener = await listenIn(place(lab, 'h1'), 'listen-tcp', 9100);
      await refuse('ERR_PORT_IN_USE', /endpoint holder/, '-p', '8083:80', '-p', '9000:80');
      await refuse('ERR_PORT_IN_USE', /endpoint holder/, '-p', '8990-9010:8990-9010');
      await refuse('ERR_PORT_IN_USE', /process .*9100/, '-p', '9100:80');
      await refuse('ERR_PORT_IN_USE', /endpoint holder/, '-p', '127.0.0.1:9000:80');
      await refuse('ERR_PORT_IN_USE', /VXLAN/, '-p', '4789:80/udp');
      await refuse('ERR_INVALID_PORT', /11 and 12 ports/, '-p', '8080-8090:80-91');
      await refuse('ERR_INVALID_PORT', /65536/, '-p', '65536:80');
      await refuse('ERR_INVALID_PORT', /icmp/, '-p', '8083:80/icmp');
      await refuse('ERR_PORT_HOST_ADDRESS', /198\.18\.0\.99/, '-p', '198.18.0.99:8083:80');
      await listener.end();
      t.notOk(await answers(lab, 8083), 'a refused change opens nothing');
      t.ok(await answers(lab, 8082), 'and closes nothing');
      t.equal((await set('--label', 'tier=front')).ports?.length, 2, 'a change of labels leaves ports alone');

      await h1.agent.kill();
      await h1.startAgent();
      t.same(
        await published(),
        [
          [8082, 8082, 80, 'tcp'],
          [5353, 5354, 53, 'udp'],
        ],
        'it outlives the agent',
      );
      t.ok(await answers(lab, 8082));
      t.same(await flows(lab, 5353), staying, 'and the flow outlives it too');

      await set('--no-publish');
      t.same(await published(), []);
      t.notOk(await answers(lab, 8082), 'all are closed');
      await waitFor('the flow to be forgotten', async () =>
        (await flows(lab, 5353)).every((id) => !staying.includes(id)),
      );
      await steady.end();
      await h1.detach('front', holder);
      const table = (await h1.exec('nft', 'list', 'table', 'inet', 'tsnet')).stdout;
      t.notMatch(table, /808\d|535\d|9000/, 'nothing of any is left');
      const next = await lab.sandbox();
      await t.resolves(h1.attach('front', next, { ports: [{ hostPort: 8082, port: 80 }] }), 'another may have it');
    } finally {
      await server.end();
      await datagrams.end();
    }
  });
});
