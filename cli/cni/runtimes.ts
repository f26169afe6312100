/** Runtimes that `tsnet cni install` knows. */
export const runtimes = ['podman', 'containerd', 'crio', 'nerdctl', 'ctr', 'nomad', 'apptainer', 'cnitool'] as const;
export type Runtime = (typeof runtimes)[number];

/** Where a runtime looks for plugins and configurations. */
export interface RuntimePlaces {
  /** The first that is there is taken; where none is, the first is made. */
  readonly binDirs: readonly string[];
  readonly confDir: string;
  /** Whether it takes the first file of the folder and no other; then a prefix brings ours to the front. */
  readonly takesFirst: boolean;
  /** Whether it makes the loopback interface by a plugin, from the same folder. */
  readonly needsLoopback: boolean;
}

/** What comes before the name of a runtime's file. */
export const filePrefixOf = (runtime: Runtime): string => (runtimePlaces[runtime].takesFirst ? '10-' : '');

const debian = '/usr/lib/cni';
const upstream = '/opt/cni/bin';
const confDir = '/etc/cni/net.d';
/** Those that run one network for all, and those whose containers name theirs. */
const [one, named] = [
  { takesFirst: true, needsLoopback: false },
  { takesFirst: false, needsLoopback: false },
];

/** Debian's packages are built for /usr/lib/cni, upstream's binaries for /opt/cni/bin. */
export const runtimePlaces: Readonly<Record<Runtime, RuntimePlaces>> = {
  podman: { binDirs: [debian, '/usr/libexec/cni', '/usr/local/lib/cni', upstream], confDir, ...named },
  containerd: { binDirs: [debian, upstream], confDir, takesFirst: true, needsLoopback: true },
  crio: { binDirs: [upstream, '/usr/libexec/cni', debian], confDir, ...one },
  nerdctl: { binDirs: [upstream, '/usr/libexec/cni', debian], confDir, ...named },
  ctr: { binDirs: [upstream], confDir, ...one },
  nomad: { binDirs: [upstream], confDir: '/opt/cni/config', ...named },
  apptainer: { binDirs: ['/usr/libexec/apptainer/cni'], confDir: '/etc/apptainer/network', ...named },
  cnitool: { binDirs: [upstream, debian], confDir, ...named },
};
