/** Runtimes that `tsnet cni install` knows. */
export const runtimes = ['podman', 'containerd', 'crio', 'nerdctl', 'ctr', 'nomad', 'apptainer', 'cnitool'] as const;
export type Runtime = (typeof runtimes)[number];

/** Where a runtime looks for plugins and configurations. */
export interface RuntimePlaces {
  /** The first that is there is taken; where none is, the first is made. */
  readonly binDirs: readonly string[];
  readonly confDir: string;
  /** What comes before the name of the file: some take the first file of the folder and no other. */
  readonly filePrefix: string;
}

const debian = '/usr/lib/cni';
const upstream = '/opt/cni/bin';
const confDir = '/etc/cni/net.d';
const first = '10-';

/** Debian's packages are built for /usr/lib/cni, upstream's binaries for /opt/cni/bin. */
export const runtimePlaces: Readonly<Record<Runtime, RuntimePlaces>> = {
  podman: { binDirs: [debian, '/usr/libexec/cni', '/usr/local/lib/cni', upstream], confDir, filePrefix: '' },
  containerd: { binDirs: [debian, upstream], confDir, filePrefix: first },
  crio: { binDirs: [upstream, '/usr/libexec/cni', debian], confDir, filePrefix: first },
  nerdctl: { binDirs: [upstream, '/usr/libexec/cni', debian], confDir, filePrefix: '' },
  ctr: { binDirs: [upstream], confDir, filePrefix: first },
  nomad: { binDirs: [upstream], confDir: '/opt/cni/config', filePrefix: '' },
  apptainer: { binDirs: ['/usr/libexec/apptainer/cni'], confDir: '/etc/apptainer/network', filePrefix: '' },
  cnitool: { binDirs: [upstream, debian], confDir, filePrefix: '' },
};
