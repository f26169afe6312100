import { readFileSync } from 'node:fs';
import t, { type Test } from 'tap';
import { Firewalld } from '../lab/firewalld.js';
import type { Lab } from '../lab/lab.js';
import { enterArgs, netnsPath } from '../lab/netns.js';
import { echoBytes, listenIn, type Sandbox } from '../lab/sandbox.js';
import { Ufw } from '../lab/ufw.js';
import { underlayAddress } from '../lab/underlay.js';
import { waitFor } from '../lab/wait.js';
import { withLab } from '../lab/with-lab.js';

const host = underlayAddress(11);

async function answers(lab: Lab, port = 8080): Promise<boolean> {
  const lan: Sandbox = { name: 'lan', target: '', enter: enterArgs(netnsPath(`${lab.prefix}lan`)) };
  return echoBytes(lan, 'tcp', { address: host, port, sizeBytes: 16 }).then(
    () => true,
    () => false,
  );
}

async function rulesOf(lab: Lab, ...what: string[]): Promise<string> {
  return (await lab.host(1).exec('nft', 'list', ...what)).stdout;
}

async function must(lab: Lab, ...argv: string[]): Promise<void> {
  const { status, stderr } = await lab.host(1).exec(...argv);
  if (status !== 0) throw new Error(`${argv.join(' ')}: ${stderr}`);
}

/** One endpoint with a TCP echo on port 80, published as 8080, and another port of it. */
async function withPublished(t: Test, body: (lab: Lab) => Promise<void>): Promise<void> {
  await withLab(t, { hosts: 1 }, async (lab) => {
    await lab.host(1).create({ name: 'front' });
    const server = await lab.sandbox();
    const ports = [8080, 8081].map((hostPort) => ({ hostPort, port: 80 }));
    await lab.host(1).attach('front', server, { ports });
    const listener = await listenIn(server, 'listen-tcp', 80);
    try {
      t.ok(await answers(lab), 'the port works before');
      await body(lab);
    } finally {
      await listener.end();
    }
  });
}

const isDropWarning = ({ code }: { readonly code: string }): boolean => code === 'ERR_FORWARD_DROPPED';

const dropped = (lab: Lab): Promise<string> =>
  waitFor('the warning', async () => (await lab.host(1).status()).warnings.find(isDropWarning)?.message, 5000);

async function quiet(lab: Lab): Promise<void> {
  await waitFor('no warning', async () => !(await lab.host(1).status()).warnings.some(isDropWarning), 5000);
}

/** Asserts that what was done to the rules is mended within 2 s, and that the port works then. */
async function mended(t: Test, lab: Lab, what: string, isMended: () => Promise<boolean>): Promise<void> {
  const startedMs = performance.now();
  await waitFor(`${what}: the rules`, isMended, 5000);
  t.ok(performance.now() - startedMs < 2000, `${what}: mended within 2 s`);
  t.ok(await answers(lab), `${what}: the port works`);
}

const isWhole = async (lab: Lab, whole: string): Promise<boolean> =>
  (await rulesOf(lab, 'table', 'inet', 'tsnet')) === whole;

t.test('a published port works beside firewalld, after its reload and after a flush by anybody', async (t) => {
  await withPublished(t, async (lab) => {
    const firewalld = new Firewalld(lab.host(1));
    const whole = await rulesOf(lab, 'table', 'inet', 'tsnet');
    try {
      await firewalld.start();
      t.match(await rulesOf(lab, 'ruleset'), /table inet firewalld/, 'firewalld has its rules');
      t.match(await dropped(lab), /firewall-cmd --permanent --zone=trusted --add-interface=tsb-\+/, 'it is reported');
      await mended(t, lab, 'beside firewalld', () => isWhole(lab, whole));
      await firewalld.cmd('--permanent', '--zone=trusted', '--add-interface=tsb-+');
      await firewalld.cmd('--reload');
      await mended(t, lab, 'firewall-cmd --reload', () => isWhole(lab, whole));
      await quiet(lab);
      t.pass('what the warning names ends it');
      await firewalld.cmd('--complete-reload');
      await mended(t, lab, 'firewall-cmd --complete-reload', () => isWhole(lab, whole));
      // Last: firewalld itself does not reload after that, for its own table is gone.
      await must(lab, 'nft', 'flush', 'ruleset');
      await mended(t, lab, 'nft flush ruleset', () => isWhole(lab, whole));
    } finally {
      await firewalld.stop();
    }
    await quiet(lab);
    t.ok(await answers(lab), 'and without firewalld');
  });
});

t.test('a published port works beside ufw once its drop is opened as reported, and after its reload', async (t) => {
  await withPublished(t, async (lab) => {
    const ufw = new Ufw(lab.host(1));
    const whole = await rulesOf(lab, 'table', 'inet', 'tsnet');
    await ufw.run('--force', 'enable');
    t.match(await rulesOf(lab, 'ruleset'), /ufw-before-forward/, 'ufw has its rules');
    const help = /: (iptables -I FORWARD .*)$/.exec(await dropped(lab))?.[1] ?? '';
    t.notOk(await answers(lab), 'ufw’s drop is honoured');
    await ufw.run('route', 'allow', 'proto', 'tcp', 'to', 'any', 'port', '80');
    t.ok(await answers(lab), 'a route rule with the container’s port opens it');
    await ufw.run('route', 'delete', 'allow', 'proto', 'tcp', 'to', 'any', 'port', '80');
    t.notOk(await answers(lab), 'and closes it again');
    await must(lab, ...help.split(' '));
    await mended(t, lab, help, () => isWhole(lab, whole));
    await ufw.run('reload');
    await mended(t, lab, 'ufw reload', () => isWhole(lab, whole));
    await ufw.run('disable');
    await ufw.run('--force', 'enable');
    await mended(t, lab, 'ufw disabled and enabled', () => isWhole(lab, whole));
    await must(lab, 'nft', 'flush', 'ruleset');
    await mended(t, lab, 'nft flush ruleset', () => isWhole(lab, whole));
  });
});

t.test('an edit of our table by anybody is mended, and traffic goes on', async (t) => {
  await withPublished(t, async (lab) => {
    const whole = await rulesOf(lab, 'table', 'inet', 'tsnet');
    const chains = [...whole.matchAll(/\tchain ([\w-]+) \{/g)].map(([, name]) => name ?? '');
    t.ok(chains.length > 3, chains.join(' '));
    const edits = [
      ['flush', 'table', 'inet', 'tsnet'],
      ...chains.map((chain) => ['flush', 'chain', 'inet', 'tsnet', chain]),
      ['insert', 'rule', 'inet', 'tsnet', 'forward', 'drop'],
      ['flush', 'map', 'inet', 'tsnet', 'port4'],
      ['flush', 'set', 'inet', 'tsnet', 'links'],
      ['delete', 'table', 'inet', 'tsnet'],
    ];
    for (const edit of edits) {
      await must(lab, 'nft', ...edit);
      await mended(t, lab, `nft ${edit.join(' ')}`, () => isWhole(lab, whole));
    }
  });
});

t.test('rules of the host that deny a published port are honoured, unless it says otherwise itself', async (t) => {
  await withPublished(t, async (lab) => {
    const closed = async (what: string, ...rule: string[]): Promise<void> => {
      await must(lab, 'nft', ...rule);
      t.notOk(await answers(lab), `${what} denies the port`);
      t.ok(await answers(lab, 8081), `${what} leaves the other alone`);
    };
    await must(lab, 'nft', 'add', 'table', 'inet', 'mine');
    const chain = (name: string, hook: string, priority: number): Promise<void> =>
      must(lab, 'nft', `add chain inet mine ${name} { type filter hook ${hook} priority ${priority}; }`);
    await chain('forward', 'forward', 0);
    await closed('a forward chain', 'add rule inet mine forward meta l4proto tcp ct original proto-dst 8080 drop');
    await must(lab, 'nft', 'insert rule inet mine forward meta mark and 0x1000 != 0 accept');
    t.ok(await answers(lab), 'accepting our mark first overrides it');
    await must(lab, 'nft', 'flush', 'chain', 'inet', 'mine', 'forward');
    t.ok(await answers(lab), 'open again');
    await chain('raw', 'prerouting', -150);
    await closed('a chain before translation', 'add rule inet mine raw tcp dport 8080 drop');
    await must(lab, 'nft', 'delete', 'table', 'inet', 'mine');
    await must(
      lab,
      'iptables',
      '-A',
      'FORWARD',
      '-p',
      'tcp',
      '-m',
      'conntrack',
      '--ctorigdstport',
      '8080',
      '-j',
      'DROP',
    );
    t.notOk(await answers(lab), 'iptables’ FORWARD denies the port');
    t.ok(await answers(lab, 8081), 'and not the other');
    await must(lab, 'iptables', '-F', 'FORWARD');
    t.ok(await answers(lab), 'nothing lasts');
  });
});

t.test('a port is denied in ufw’s and firewalld’s own configuration, as docs/ports.md says', async (t) => {
  await withPublished(t, async (lab) => {
    const lines = (title: string): string[] => {
      const docs = readFileSync(new URL('../../../../docs/ports.md', import.meta.url), 'utf8');
      const [, block = ''] = docs.split(title)[1]?.split('\n\n') ?? [];
      return block.split('\n').map((line) => line.trim());
    };
    const ufw = new Ufw(lab.host(1));
    const added = lines('/etc/ufw/before.rules');
    t.equal(added.length, 2, added.join('\n'));
    ufw.addRules('before.rules', added);
    const added6 = added.map((line) => line.replace('ufw-before-forward', 'ufw6-before-forward'));
    ufw.addRules('before6.rules', added6);
    await ufw.run('--force', 'enable');
    for (const when of ['enabled', 'reloaded']) {
      t.notOk(await answers(lab), `ufw ${when}: the port is denied`);
      t.ok(await answers(lab, 8081), `ufw ${when}: the other is open`);
      await ufw.run('reload');
    }
    await quiet(lab);
    await ufw.run('disable');
    t.ok(await answers(lab), 'it goes with ufw');

    const firewalld = new Firewalld(lab.host(1));
    const [command = '', ...rest] = lines('of firewalld itself');
    t.same(rest, ['firewall-cmd --reload']);
    try {
      await firewalld.start();
      t.ok(await answers(lab), 'firewalld accepts what is translated');
      await firewalld.cmd(...command.split(' ').slice(1));
      await firewalld.cmd('--reload');
      t.notOk(await answers(lab), 'firewalld: the port is denied');
      t.ok(await answers(lab, 8081), 'firewalld: the other is open');
    } finally {
      await firewalld.stop();
    }
    t.ok(await answers(lab), 'it goes with firewalld');
  });
});
