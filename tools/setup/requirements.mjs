import { readFileSync } from 'node:fs';
import { capture } from './commands.mjs';
import { SetupError } from './progress.mjs';

/** Kernel features, each tried for real in a throw-away namespace: [what it is called, program, input]. */
const features = [
  ['network namespaces', 'ip', 'link set lo up'],
  ['bridge links (CONFIG_BRIDGE)', 'ip', 'link add probe0 type bridge'],
  ['veth links (CONFIG_VETH)', 'ip', 'link add probe1 type veth peer name probe2'],
  [
    'VXLAN links (CONFIG_VXLAN)',
    'ip',
    'link add probe3 type vxlan id 8388608 dstport 4789 local 198.18.0.1 nolearning',
  ],
  ['macvlan links (CONFIG_MACVLAN)', 'ip', 'link add probe4 link probe1 type macvlan mode bridge'],
  ['nftables (CONFIG_NF_TABLES_INET)', 'nft', 'table inet probe { map m { type inet_service : ipv4_addr; }; }'],
  ['nftables NAT (CONFIG_NFT_NAT)', 'nft', 'table inet probe { chain c { type nat hook prerouting priority -100; }; }'],
];

const oldestNode = [20, 19];

/** Checks what no package can bring: the system, the user, Node. */
export function checkMachine() {
  if (process.platform !== 'linux') {
    throw new SetupError(`tsnet runs on Linux only, and this is ${process.platform}.`);
  }
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major < oldestNode[0] || (major === oldestNode[0] && minor < oldestNode[1])) {
    throw new SetupError(`tsnet needs Node ${oldestNode.join('.')} or newer, and this is ${process.versions.node}.`);
  }
}

/** Checks that this is root: namespaces and packages need it. */
export function checkRoot() {
  if (process.geteuid?.() !== 0) {
    throw new SetupError('This needs root, for network namespaces and Debian packages: run it again with sudo.');
  }
}

/** Checks that the kernel has each feature; the packages (ip, nft, unshare) must be there already. */
export function checkKernel() {
  if (!capture('unshare', ['--net', 'true']).ok) {
    throw new SetupError(
      'This machine does not let root make network namespaces (CONFIG_NET_NS, or CAP_SYS_ADMIN in a container).',
    );
  }
  const batch = features.filter(([, program]) => program === 'ip').map(([, , line]) => line);
  const nft = features.filter(([, program]) => program === 'nft').map(([, , text]) => text);
  if (probe('ip', ['-batch', '-'], batch.join('\n')) && probe('nft', ['-f', '-'], nft.join('\n'))) return;
  const missing = features.filter((feature) => !probeFeature(feature)).map(([name]) => name);
  const release = readFileSync('/proc/sys/kernel/osrelease', 'utf8').trim();
  throw new SetupError(`This kernel (${release}) lacks: ${missing.join(', ')}.`);
}

function probeFeature([, program, input]) {
  if (program === 'nft') return probe('nft', ['-f', '-'], input);
  const needsParent = input.includes('link probe1');
  return probe('ip', ['-batch', '-'], needsParent ? `link add probe1 type bridge\n${input}` : input);
}

function probe(program, args, input) {
  return capture('unshare', ['--net', program, ...args], { input: `${input}\n` }).ok;
}
