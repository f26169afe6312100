import t from 'tap';
import { MacAnnouncer } from '../../../agent/datapath/mac-announcer.js';
import { newLogger } from '../../../lib/log.js';
import { waitFor } from '../../lab/wait.js';
import { newEndpoint, newNetwork } from '../desired/records.js';

const network = newNetwork('overlay');
const endpoint = (mac: string) => newEndpoint(network, 'h1', { addresses: ['10.64.1.9', 'fd00:64::1:9'], mac });
const [before, after, later] = ['02:00:00:00:00:01', '02:00:00:00:00:02', '02:00:00:00:00:03'];

function newAnnouncer(againMs: number): { announcer: MacAnnouncer; frames: Buffer[] } {
  const frames: Buffer[] = [];
  const announcer = new MacAnnouncer({
    host: 'h1',
    sendFrame: (_ifindex, frame) => void frames.push(Buffer.from(frame)),
    linkIndex: () => 7,
    settled: () => Promise.resolve(),
    log: newLogger('test', 'silent'),
    againMs,
  });
  return { announcer, frames };
}

const bytesOf = (mac: string): Buffer => Buffer.from(mac.replaceAll(':', ''), 'hex');
const countOf = (frames: readonly Buffer[], mac: string): number =>
  frames.filter((frame) => frame.includes(bytesOf(mac))).length;

t.test(
  'an address with another MAC is announced in both families, and once more for who was not yet listening',
  async (t) => {
    const { announcer, frames } = newAnnouncer(20);
    announcer.note(network, endpoint(before));
    announcer.note(network, endpoint(before));
    await new Promise((resolve) => setImmediate(resolve));
    t.same(frames, [], 'nothing is announced that has not changed');
    announcer.note(network, endpoint(after));
    await waitFor('both announcements', () => countOf(frames, after) === 4, 5000);
  },
);

t.test('what has changed again meanwhile is not announced again', async (t) => {
  const { announcer, frames } = newAnnouncer(50);
  for (const mac of [before, after, later]) announcer.note(network, endpoint(mac));
  await waitFor('both announcements of the last', () => countOf(frames, later) === 4, 5000);
  t.equal(countOf(frames, after), 2, 'and one of that before');
});
