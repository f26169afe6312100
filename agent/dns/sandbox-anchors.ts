import type { NativeApi } from '../../native/api.js';
import { parseTarget } from '../attach/target.js';

/**
 * Those sandboxes whose anchor (process or path) is gone, or leads elsewhere by now.
 *
 * @param anchors the target by which each sandbox, known by its cookie, was found.
 */
export async function vanishedSandboxes(
  native: Pick<NativeApi, 'netnsCookies'>,
  anchors: ReadonlyMap<string, string>,
): Promise<string[]> {
  const cookies = await native.netnsCookies([...anchors.values()].map((target) => parseTarget(target).ref));
  return [...anchors.keys()].filter((sandbox, index) => {
    const cookie = cookies[index];
    if (typeof cookie === 'bigint') return String(cookie) !== sandbox;
    return cookie === 'ENOENT' || cookie === 'ESRCH' || cookie === 'EINVAL';
  });
}
