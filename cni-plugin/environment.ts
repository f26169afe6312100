import { cniCode, CniError } from './error.js';

export const commands = ['ADD', 'DEL', 'CHECK', 'GC', 'STATUS', 'VERSION'] as const;
export type Command = (typeof commands)[number];

/** The variables that a runtime sets; empty where it does not. */
export interface Environment {
  readonly command: string;
  readonly containerId: string;
  readonly netns: string;
  readonly ifname: string;
  readonly args: string;
  readonly path: string;
}

const namesInOrder = ['CNI_COMMAND', 'CNI_CONTAINERID', 'CNI_NETNS', 'CNI_IFNAME', 'CNI_ARGS', 'CNI_PATH'] as const;
const neededBy: Readonly<Record<string, readonly string[]>> = {
  CNI_COMMAND: ['ADD', 'DEL', 'CHECK', 'GC', 'STATUS', 'VERSION'],
  CNI_CONTAINERID: ['ADD', 'DEL', 'CHECK'],
  CNI_NETNS: ['ADD', 'CHECK'],
  CNI_IFNAME: ['ADD', 'DEL', 'CHECK'],
  CNI_PATH: ['ADD', 'DEL', 'CHECK', 'GC', 'STATUS'],
};

/**
 * Reads the variables. All that are missing are named together; CNI_PATH alone is missing for GC only, since only
 * delegation needs it.
 * Errors: 4.
 */
export function parseEnvironment(variables: Readonly<Record<string, string>>): Environment {
  const value = (name: string): string => variables[name] ?? '';
  const command = value('CNI_COMMAND');
  const missing = namesInOrder.filter(
    (name) => value(name) === '' && (name === 'CNI_COMMAND' || (neededBy[name] ?? []).includes(command)),
  );
  if (missing.some((name) => name !== 'CNI_PATH') || (missing.length > 0 && command === 'GC'))
    throw new CniError(cniCode.invalidEnvironment, `required env variables [${missing.join(',')}] missing`);
  return {
    command,
    containerId: value('CNI_CONTAINERID'),
    netns: value('CNI_NETNS'),
    ifname: value('CNI_IFNAME'),
    args: value('CNI_ARGS'),
    path: value('CNI_PATH'),
  };
}

/** What ids of containers and names of networks are made of. */
export const namePattern = /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/;

/** Checks the container's id and the interface's name, for the verbs that need them. Errors: 4. */
export function checkNames(environment: Environment): Command {
  const { command, containerId, ifname } = environment;
  if (neededBy['CNI_CONTAINERID']?.includes(command) === true) {
    if (!namePattern.test(containerId))
      throw new CniError(cniCode.invalidEnvironment, 'invalid characters in containerID', containerId);
    checkIfname(ifname);
  }
  const known = commands.find((each) => each === command);
  if (known === undefined) throw new CniError(cniCode.invalidEnvironment, `unknown CNI_COMMAND: ${command}`);
  return known;
}

function checkIfname(ifname: string): void {
  if (Buffer.byteLength(ifname) > 15) {
    const details = 'interface name should be less than 16 characters';
    throw new CniError(cniCode.invalidEnvironment, 'interface name is too long', details);
  }
  if (ifname === '.' || ifname === '..') throw new CniError(cniCode.invalidEnvironment, 'interface name is . or ..');
  // White space as Go's unicode.IsSpace has it: \s without U+FEFF, with U+0085.
  if (/[/:\u0085]|(?!\ufeff)\s/u.test(ifname))
    throw new CniError(cniCode.invalidEnvironment, 'interface name contains / or : or whitespace characters');
}

/**
 * Reads CNI_ARGS, `K=V;K2=V2`. Keys that mean nothing to anybody here are left alone, also without IgnoreUnknown.
 * Errors: 4 for what is no pair.
 */
export function parseArgs(text: string): ReadonlyMap<string, string> {
  const args = new Map<string, string>();
  if (text === '') return args;
  for (const pair of text.split(';')) {
    const [key = '', value, ...more] = pair.split('=');
    if (key === '' || value === undefined || more.length > 0)
      throw new CniError(
        cniCode.invalidEnvironment,
        `ARGS: invalid pair ${JSON.stringify(pair)}`,
        'CNI_ARGS is K=V;K2=V2',
      );
    args.set(key, value);
  }
  return args;
}
