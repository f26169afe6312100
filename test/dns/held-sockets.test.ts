import { closeSync, fstatSync, readdirSync } from 'node:fs';
import t from 'tap';
import { HeldSockets } from '../../agent/dns/held-sockets.js';
import type { DnsSocket } from '../../agent/dns/protocol.js';
import { newLogger } from '../../lib/log.js';
import { loadNative } from '../../native/index.js';
import { waitFor } from '../lab/wait.js';

const native = loadNative();
const log = newLogger('test', 'silent');
const openCount = (): number => readdirSync('/proc/self/fd').length;

/** As a name server opens them; it is this process. */
async function openPair(): Promise<{ readonly udp: DnsSocket; readonly tcp: DnsSocket }> {
  const open = async (type: 'udp' | 'tcp'): Promise<DnsSocket> => {
    const fd = await native.inetOpen({ type, address: '127.0.0.1', port: 0 });
    t.teardown(() => closeSync(fd));
    return { fd, inode: fstatSync(fd).ino };
  };
  return { udp: await open('udp'), tcp: await open('tcp') };
}

t.test('the agent has duplicates of what the name server has open, for as long as that has it', async (t) => {
  const held = new HeldSockets({ native, log });
  held.begin(process.pid);
  const [one, other] = [await openPair(), await openPair()];
  const before = openCount();
  held.hear({ say: 'open', place: '10.0.0.1', ...one });
  const kept = held.all.get('10.0.0.1');
  t.same(
    [kept?.udp, kept?.tcp].map((fd) => fstatSync(fd ?? -1).ino),
    [one.udp.inode, one.tcp.inode],
  );
  t.not(kept?.udp, one.udp.fd);
  held.hear({ say: 'open', place: '10.0.0.1', ...one });
  t.equal(openCount(), before + 2, 'told again, they are there once');
  held.hear({ say: 'open', place: '10.0.0.1', ...other });
  t.equal(fstatSync(held.all.get('10.0.0.1')?.tcp ?? -1).ino, other.tcp.inode, 'opened anew');
  held.hear({ say: 'closed', place: '10.0.0.1' });
  t.equal(openCount(), before);
  held.hear({ say: 'closed', place: '10.0.0.1' });

  held.hear({ say: 'open', place: '10.0.0.2', udp: one.udp, tcp: { ...one.tcp, inode: one.udp.inode } });
  t.equal(held.all.size, 0, 'a descriptor that is another one by now is not held');
  held.hear({ say: 'open', place: '10.0.0.2', udp: { fd: 4000, inode: 1 }, tcp: one.tcp });
  t.equal(openCount(), before, 'nor half of a pair');

  held.hear({ say: 'open', place: '10.0.0.1', ...one });
  held.begin(process.pid);
  t.equal(openCount(), before, 'the next name server has them itself');
});

t.test('where no name server comes, they are not held for long', async (t) => {
  const held = new HeldSockets({ native, log, holdMs: 100 });
  held.begin(process.pid);
  const pair = await openPair();
  const before = openCount();
  held.hear({ say: 'open', place: '1234', ...pair });
  held.wait();
  held.wait();
  t.equal(openCount(), before + 2);
  await waitFor('them to be closed', () => openCount() === before);
  t.equal(held.all.size, 0);
});
