import { readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { InvalidArgumentError, Option } from 'commander';
import type { EndpointView } from '../../core/api/endpoint.js';
import { TsnetError } from '../../core/errors.js';
import { formatConflist, parseConfigName, parseOwnConflist, type ConflistOptions } from '../cni/conflist.js';
import { isFolder, listConfigs, readText, removeFile, replaceFile } from '../cni/files.js';
import { notesFor } from '../cni/notes.js';
import { filePrefixOf, runtimePlaces, runtimes, type Runtime } from '../cni/runtimes.js';
import type { CommandSpec, GroupSpec } from '../command.js';
import { agentSocket, defaultAgentSocket } from '../connection.js';
import type { CliContext } from '../context.js';
import { printOne, type View } from '../output/format.js';

interface PlaceFlags {
  readonly runtime: Runtime;
  readonly binDir?: string;
  readonly confDir?: string;
  readonly name?: string;
}

interface InstallFlags extends PlaceFlags {
  readonly network: string;
  readonly cniVersion: string;
}

/** What was done, or was done already. */
interface Installation {
  readonly runtime: Runtime;
  readonly name: string;
  readonly network: string;
  readonly binary: string;
  readonly conflist: string;
  /** Paths that were written or removed; none when all was as it should be. */
  readonly changed: readonly string[];
}

const view: View<Installation> = {
  fields: ['runtime', 'name', 'network', 'binary', 'conflist', 'changed'],
  name: ({ conflist }) => conflist,
  columns: [
    { title: 'RUNTIME', cell: ({ runtime }) => runtime },
    { title: 'NAME', cell: ({ name }) => name },
    { title: 'NETWORK', cell: ({ network }) => network },
    { title: 'BINARY', cell: ({ binary }) => binary },
    { title: 'CONFLIST', cell: ({ conflist }) => conflist },
    { title: 'CHANGED', cell: ({ changed }) => String(changed.length) },
  ],
};

const versions = ['0.3.1', '0.4.0', '1.0.0', '1.1.0'];

function placeOptions(): Option[] {
  return [
    new Option('--runtime <RUNTIME>', 'for which runtime').choices(runtimes).makeOptionMandatory(),
    new Option(
      '--bin-dir <DIR>',
      "where the runtime looks for plugins (default: the runtime's, the first that is there)",
    ),
    new Option('--conf-dir <DIR>', "where it looks for configurations (default: the runtime's)"),
    new Option('--name <NAME>', 'name of the network as the runtime sees it (default: NETWORK-RUNTIME)').argParser(
      parseName,
    ),
  ];
}

function networkOption(): Option {
  return new Option('--network <NETWORK>', 'name or id of the tsnet network').default('tsnet').argParser(parseName);
}

function parseName(text: string): string {
  if (/^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$/.test(text)) return text;
  throw new InvalidArgumentError('Use letters, digits, "-", "_" and ".", beginning with a letter or digit.');
}

interface Places {
  readonly name: string;
  readonly binary: string;
  readonly confDir: string;
  readonly conflist: string;
}

function placesFor(cli: CliContext, options: PlaceFlags & { readonly network: string }): Places {
  const { binDirs, confDir } = runtimePlaces[options.runtime];
  const binDir =
    options.binDir === undefined ? (binDirs.find(isFolder) ?? binDirs[0] ?? '') : resolve(cli.cwd, options.binDir);
  const folder = resolve(cli.cwd, options.confDir ?? confDir);
  const name = options.name ?? `${options.network}-${options.runtime}`;
  return {
    name,
    binary: join(binDir, 'tsnet'),
    confDir: folder,
    conflist: join(folder, `${filePrefixOf(options.runtime)}${name}.conflist`),
  };
}

const installCommand: CommandSpec<InstallFlags> = {
  name: 'install',
  summary: 'make a network of tsnet known to a container runtime of this host',
  details:
    'Puts the CNI plugin where the runtime looks for it, asks it whether the agent can attach to the network, and only ' +
    'then writes the configuration. Doing it again changes nothing that is right already.',
  options: () => [
    ...placeOptions(),
    networkOption(),
    new Option('--cni-version <VERSION>', "the configuration's version; runtimes before 2024 know no 1.1.0")
      .choices(versions)
      .default('1.0.0'),
  ],
  examples: [
    {
      does: 'So that `podman run --network frontend-podman` works',
      line: 'tsnet cni install --runtime podman --network frontend',
    },
    {
      does: 'For a containerd with folders of its own',
      line: 'tsnet cni install --runtime containerd --network pods --bin-dir /opt/cni/bin --conf-dir /etc/cni/net.d',
    },
  ],
  common: 'output',
  act: async ({ options, cli, format }) => {
    const { runtime, network, cniVersion } = options;
    const places = placesFor(cli, options);
    const { name, binary, conflist } = places;
    assertFree(places, runtime);
    const changed: string[] = [];
    if (replaceFile(binary, readPlugin(cli), 0o755)) changed.push(binary);
    const socket = agentSocket(cli);
    const list: ConflistOptions = {
      name,
      runtime,
      network,
      cniVersion,
      agentSocket: socket === defaultAgentSocket ? null : socket,
    };
    const { askStatus } = await import('../cni/status.js');
    await askStatus(binary, list);
    if (replaceFile(conflist, formatConflist(list), 0o644)) changed.push(conflist);
    for (const note of notesFor(runtime, places)) cli.stderr.write(`note: ${note}\n`);
    await printOne(cli, format, { view, row: { runtime, name, network, binary, conflist, changed } });
  },
};

/** Neither the file nor the name may be somebody else's. */
function assertFree({ confDir, conflist, name }: Places, runtime: Runtime): void {
  for (const { path, text } of listConfigs(confDir)) {
    const isOurs = parseOwnConflist(text)?.runtime === runtime;
    if (path === conflist && isOurs) continue;
    if (path !== conflist && parseConfigName(text) !== name) continue;
    throw new TsnetError('ERR_NETWORK_NAME_IN_USE', `${path} has a network "${name}" already`, {
      details: { path, name },
      hint: 'Choose another name with --name, or remove that file.',
    });
  }
}

function readPlugin(cli: CliContext): Buffer {
  const path = join(cli.libexecDir, '../cni/tsnet');
  try {
    return readFileSync(path);
  } catch (cause) {
    throw new TsnetError('ERR_NATIVE_MISSING', `the CNI plugin is not at ${path}`, { cause });
  }
}

const uninstallCommand: CommandSpec<PlaceFlags & { readonly network?: string }> = {
  name: 'uninstall',
  summary: 'take networks of tsnet away from a container runtime of this host',
  details:
    'Removes the configurations that install wrote for this runtime: all of them, or those that --network or --name ' +
    'name. The plugin goes with the last of them, once no container needs it for its end any more.',
  options: () => [...placeOptions(), new Option('--network <NETWORK>', 'of this network only').argParser(parseName)],
  examples: [{ does: 'All that podman knows of', line: 'tsnet cni uninstall --runtime podman' }],
  common: 'output',
  act: async ({ options, cli, format, calls }) => {
    const { runtime, network, name } = options;
    const places = placesFor(cli, { ...options, network: network ?? '' });
    const isWanted = (text: string): boolean => {
      const own = parseOwnConflist(text);
      if (own === null || own.runtime !== runtime) return false;
      return (network === undefined || own.network === network) && (name === undefined || own.name === name);
    };
    const ours = listConfigs(places.confDir).filter(({ text }) => isWanted(text));
    const changed = ours.map(({ path }) => path).filter(removeFile);
    if (await isPluginIdle(calls, places)) {
      if (removeFile(places.binary)) changed.push(places.binary);
    } else if (readText(places.binary) !== null) {
      cli.stderr.write(`note: kept ${places.binary}: configurations or containers may still need it\n`);
    }
    const shown = { name: name ?? '*', network: network ?? '*', conflist: ours.map(({ path }) => path).join(',') };
    await printOne(cli, format, { view, row: { runtime, binary: places.binary, ...shown, changed } });
  },
};

/** A container that runs needs the plugin for its DEL; who cannot be asked counts as busy. */
async function isPluginIdle(
  calls: { agent<T>(method: string, path: string): Promise<T> },
  { confDir, binary }: Places,
): Promise<boolean> {
  const sharing = Object.values(runtimePlaces).filter(({ binDirs }) => binDirs.includes(dirname(binary)));
  const folders = new Set([confDir, ...sharing.map((each) => each.confDir)]);
  for (const folder of folders)
    if (listConfigs(folder).some(({ text }) => /"type"\s*:\s*"tsnet"/.test(text))) return false;
  try {
    const endpoints = await calls.agent<readonly EndpointView[]>('GET', '/v1/agent/endpoints');
    return !endpoints.some(({ labels }) => 'cni.name' in labels);
  } catch {
    return false;
  }
}

export const cniCommands: GroupSpec = {
  name: 'cni',
  summary: 'make networks known to container runtimes that speak CNI',
  commands: [installCommand, uninstallCommand],
};
