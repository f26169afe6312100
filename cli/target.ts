import { resolve } from 'node:path';
import { TsnetError } from '../core/errors.js';

/** Where `ip netns add` binds its namespaces. */
export const netnsDir = '/run/netns';

/** PID_MAX_LIMIT of 64-bit kernels (linux/threads.h). */
const pidLimit = 4_194_304;

/**
 * Reads TARGET as people write it, `pid:N`, `netns:PATH` or a name in /run/netns, into what the agent
 * takes: `pid:N` or `netns:` with an absolute path.
 */
export function parseTarget(text: string, cwd: string): string {
  if (/^[0-9]+$/.test(text))
    throw refused(text, `Write pid:${text} for the process, or netns:${netnsDir}/${text} for the namespace.`);
  if (text.startsWith('pid:')) {
    const pid = text.slice('pid:'.length);
    if (/^[1-9][0-9]*$/.test(pid)) {
      if (Number(pid) <= pidLimit) return text;
      throw new TsnetError(
        'ERR_INVALID_TARGET',
        `TARGET: no process has the id ${pid}: ${pidLimit} is the largest there is`,
        {
          hint: 'Give the id of a running process, for example pid:4711; `ps` lists them.',
        },
      );
    }
    throw refused(text, 'Write pid: and the number of a running process, for example pid:4711.');
  }
  if (text.startsWith('netns:')) {
    const path = text.slice('netns:'.length);
    if (path !== '' && !path.includes('\0')) return `netns:${resolve(cwd, path)}`;
    throw refused(text, 'Write netns: and the path of a namespace, for example netns:/proc/4711/ns/net.');
  }
  if (text.includes('/')) throw refused(text, `Write netns:${text} for a path.`);
  if (text === '' || text === '.' || text === '..' || text.includes('\0')) throw refused(text);
  return `netns:${netnsDir}/${text}`;
}

function refused(text: string, hint?: string): TsnetError {
  const options = hint === undefined ? {} : { hint };
  return new TsnetError(
    'ERR_INVALID_TARGET',
    `TARGET: "${text}" is neither pid:N, netns:PATH nor a name in ${netnsDir}`,
    options,
  );
}
