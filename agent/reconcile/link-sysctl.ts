import type { NativeApi, NetnsRef } from '../../native/api.js';

/**
 * What a new link of ours is set to before it is first up. Endpoints are no routers for the host: it
 * takes no router advertisement from them. And the host speaks no IPv6 on the link, not even from a
 * link-local address, until an IPv6 address is wanted there: a VXLAN device or a port would otherwise
 * send its own solicitations to every host and sandbox.
 */
const quiet = [
  ['accept_ra', '0'],
  ['disable_ipv6', '1'],
] as const;

/** Writes one setting of a link, unless the kernel has no IPv6. */
async function ensureInet6(
  native: NativeApi,
  setting: { readonly link: string; readonly name: string; readonly value: string },
  netns: NetnsRef | undefined,
): Promise<boolean> {
  const path = `net/ipv6/conf/${setting.link}/${setting.name}`;
  try {
    const current = await native.sysctlRead(path, netns);
    if (current.trim() === setting.value) return false;
    await native.sysctlWrite(path, setting.value, netns);
    return true;
  } catch (error) {
    if ((error as { code?: unknown }).code === 'ENOENT') return false;
    throw error;
  }
}

/** Quietens a link that has just been created. */
export async function quietenLink(native: NativeApi, link: string, netns: NetnsRef | undefined): Promise<void> {
  for (const [name, value] of quiet) await ensureInet6(native, { link, name, value }, netns);
}

/**
 * Makes the host take no router advertisements from a link.
 *
 * @returns whether anything had to be written.
 */
export async function ensureNoRouterAdverts(
  native: NativeApi,
  link: string,
  netns: NetnsRef | undefined,
): Promise<boolean> {
  return ensureInet6(native, { link, name: 'accept_ra', value: '0' }, netns);
}

/**
 * Lets the host speak IPv6 on a link. Router advertisements stay refused.
 *
 * @returns whether anything had to be written.
 */
export async function ensureInet6Link(native: NativeApi, link: string, netns: NetnsRef | undefined): Promise<boolean> {
  const refused = await ensureNoRouterAdverts(native, link, netns);
  return (await ensureInet6(native, { link, name: 'disable_ipv6', value: '0' }, netns)) || refused;
}
