import t from 'tap';
import { listenIn } from '../lab/sandbox.js';
import { withLab } from '../lab/with-lab.js';

const port = 5353;

t.test('multicast and broadcast reach every sandbox of an overlay, on all hosts, and no other network', async (t) => {
  await withLab(t, { hosts: 3 }, async (lab) => {
    const subnets = [{ subnet: '10.71.0.0/24' }, { subnet: 'fd10:71::/64' }];
    await lab.host(1).create({ name: 'party', subnets });
    await lab.host(1).create({ name: 'quiet', ipv6: true });
    const guests = await Promise.all(lab.hosts.map(() => lab.sandbox()));
    const stranger = await lab.sandbox();
    for (const [index, guest] of guests.entries()) await lab.host(index + 1).attach('party', guest);
    await lab.host(2).attach('quiet', stranger);

    const groups = [
      ['239.71.0.1', 'IPv4 multicast'],
      ['ff15::71', 'IPv6 multicast'],
      ['10.71.0.255', 'subnet broadcast'],
      ['255.255.255.255', 'limited broadcast'],
    ] as const;
    for (const [group, title] of groups) {
      await t.test(title, async (t) => {
        const [sender, ...others] = guests;
        if (sender === undefined) throw new Error('nobody is there');
        const listeners = await Promise.all(
          others.map((guest) => listenIn(guest, 'listen-group', group, port, 'eth0')),
        );
        const apart = await listenIn(stranger, 'listen-group', group, port, 'eth0');
        const sending = await listenIn(sender, 'send-group', group, port, 'eth0', title);
        for (const listener of listeners) t.equal(await listener.expect('text'), title);
        await sending.end();
        await Promise.all(listeners.map((listener) => listener.end()));
        t.notOk('text' in (await apart.end()), 'the other network heard nothing');
      });
    }
  });
});
