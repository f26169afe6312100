import t, { type Test } from 'tap';
import { execIn, mustExecIn, type Sandbox } from '../lab/sandbox.js';
import { waitFor } from '../lab/wait.js';
import { withLab } from '../lab/with-lab.js';

/** What dig prints for one question, answers only. */
async function dig(from: Sandbox, server: string, ...words: string[]): Promise<string[]> {
  const { stdout } = await execIn(from, 'dig', '+short', '+tries=2', '+time=5', `@${server}`, ...words);
  return stdout
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith(';'))
    .sort();
}

/** The whole of dig's output. */
const digAll = (from: Sandbox, server: string, ...words: string[]): Promise<string> =>
  mustExecIn(from, 'dig', '+tries=2', '+time=5', `@${server}`, ...words);

const soon = <T>(what: string, ask: () => Promise<T>): Promise<NonNullable<T>> => waitFor(what, ask, 30_000);

t.test('a sandbox resolves the names of its networks, wherever they are, and no others', async (t: Test) => {
  await withLab(t, { hosts: 2, agentArgs: ['--dns-upstream', '127.0.0.1#9'] }, async (lab) => {
    const [h1, h2] = [lab.host(1), lab.host(2)];
    const front = await h1.create({ name: 'frontend', ipv6: true });
    await h1.create({ name: 'app' });
    const gateway = front.subnets[0]?.gateway ?? '';
    const gateway6 = front.subnets[1]?.gateway ?? '';
    const [web, client, both] = [await lab.sandbox(), await lab.sandbox(), await lab.sandbox()];
    const labels = { 'tsnet.port/http': '8080', tier: 'front' };
    const webEnd = await h1.attach('frontend', web, { name: 'web', aliases: ['www'], labels, id: 'c'.repeat(64) });
    const clientEnd = await h2.attach('frontend', client, { name: 'client' });
    const myapp = await h2.attach('app', both, { name: 'myapp' });
    await h2.attach('frontend', both, { name: 'both' });
    const [v4 = '', v6 = ''] = webEnd.addresses;

    await soon('web to resolve on the other host', async () => (await dig(client, gateway, 'web')).length > 0);
    for (const name of [
      'web',
      'WEB',
      'www',
      'web.frontend',
      'web.frontend.tsnet.internal',
      'c'.repeat(12),
      webEnd.id,
    ]) {
      t.same(await dig(client, gateway, name, 'A'), [v4], `A of ${name}`);
      t.same(await dig(client, gateway, name, 'AAAA'), [v6], `AAAA of ${name}`);
    }
    t.same(await dig(client, gateway6, 'web', 'A'), [v4], 'asked over IPv6');
    t.same(await dig(client, gateway, '+tcp', 'web', 'A'), [v4], 'asked over TCP');
    t.same(await dig(client, gateway, '-x', v4), ['web.frontend.tsnet.internal.'], 'PTR, IPv4');
    t.same(await dig(client, gateway, '-x', v6), ['web.frontend.tsnet.internal.'], 'PTR, IPv6');
    t.same(await dig(client, gateway, '_http._tcp.web', 'SRV'), [`0 0 8080 ${webEnd.id}.frontend.tsnet.internal.`]);
    t.same(
      await dig(client, gateway, `${webEnd.id}.frontend.tsnet.internal`, 'A'),
      [v4],
      'the target of the SRV record',
    );
    t.same(await dig(client, gateway, 'web', 'TXT'), ['"tier=front"', '"tsnet.port/http=8080"']);

    t.match(await digAll(client, gateway, 'web.frontend', 'MX'), /status: NOERROR[\s\S]*ANSWER: 0[\s\S]*SOA/, 'NODATA');
    t.match(await digAll(client, gateway, 'nobody'), /status: NXDOMAIN[\s\S]*SOA/, 'NXDOMAIN with SOA');
    t.match(
      await digAll(client, gateway, 'myapp.app'),
      /NXDOMAIN|SERVFAIL|REFUSED/,
      'not of a network that it is not on',
    );
    t.same(await dig(both, gateway, 'myapp.app', 'A'), [myapp.addresses[0]], 'one sandbox on two networks');
    t.same(await dig(both, gateway, 'web', 'A'), [v4]);
    t.match(await digAll(both, gateway, 'client.app'), /NXDOMAIN/, 'a name of another of its networks');

    await h1.detach('frontend', web);
    await soon('web to be gone', async () => /NXDOMAIN/.test(await digAll(client, gateway, 'web')));
    t.same(await dig(client, gateway, 'client', 'A'), [clientEnd.addresses[0]], 'the others stay');
  });
});
