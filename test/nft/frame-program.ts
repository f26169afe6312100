/** Sends Ethernet frames made by hand: `IFNAME HEX…`, in the network namespace that it runs in. */
import { execFileSync } from 'node:child_process';
import { loadNative } from '../../native/index.js';

const [ifname = '', ...frames] = process.argv.slice(2);
const link = JSON.parse(execFileSync('ip', ['-j', 'link', 'show', 'dev', ifname], { encoding: 'utf8' })) as {
  ifindex: number;
}[];
const native = loadNative();
for (const frame of frames) native.frameSend(link[0]?.ifindex ?? 0, Buffer.from(frame, 'hex'));
