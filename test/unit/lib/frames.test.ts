import t from 'tap';
import { encodeAnnouncement } from '../../../lib/frames.js';

const from = '02:00:00:00:00:01';
const mac = '02:00:0a:01:00:05';
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

t.test('an IPv4 address is announced by a gratuitous ARP reply with the same hardware address twice', async (t) => {
  const frame = hex(encodeAnnouncement({ from, address: '10.1.0.5', mac }));
  t.equal(
    frame,
    [
      'ffffffffffff',
      '020000000001',
      '0806',
      '0001',
      '0800',
      '0604',
      '0002',
      '02000a010005',
      '0a010005',
      '02000a010005',
      '0a010005',
    ].join(''),
  );
});

t.test('an IPv6 address is announced by an unsolicited neighbour advertisement with a valid checksum', async (t) => {
  const frame = Buffer.from(encodeAnnouncement({ from, address: 'fd00::5', mac }));
  t.equal(hex(frame.subarray(0, 14)), '333300000001' + '020000000001' + '86dd');
  t.equal(frame.readUInt16BE(18), 32, 'payload length');
  t.equal(frame[20], 58, 'ICMPv6');
  t.equal(frame[21], 255, 'hop limit, which receivers insist on');
  t.equal(hex(frame.subarray(54, 56)), '8800', 'type 136');
  t.equal(frame[58], 0x20, 'override, not solicited');
  t.equal(hex(frame.subarray(78)), `0201${mac.replaceAll(':', '')}`, 'target link-layer address');
  // RFC 4443 §2.3: the sum over pseudo-header and message, checksum included, is all ones.
  const summed = Buffer.concat([frame.subarray(22, 54), Buffer.from([0, 0, 0, 32, 0, 0, 0, 58]), frame.subarray(54)]);
  let sum = 0;
  for (let at = 0; at < summed.length; at += 2) sum += summed.readUInt16BE(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  t.equal(sum, 0xffff);
});
