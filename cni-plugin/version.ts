import { cniCode, CniError } from './error.js';

/** The versions of the specification that are spoken, oldest first. */
export const supportedVersions = ['0.1.0', '0.2.0', '0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'] as const;
export type CniVersion = (typeof supportedVersions)[number];
export const latestVersion = '1.1.0' satisfies CniVersion;

/** What the reference library assumes where a configuration does not say. */
export const defaultVersion = '0.1.0' satisfies CniVersion;

/** Reports whether a version is one of those spoken. */
export function isSupported(version: string): version is CniVersion {
  return (supportedVersions as readonly string[]).includes(version);
}

/** Reports whether a spoken version is that one or a later. */
export function isAtLeast(version: CniVersion, least: CniVersion): boolean {
  return supportedVersions.indexOf(version) >= supportedVersions.indexOf(least);
}

const firstWith: Readonly<Record<string, CniVersion>> = { CHECK: '0.4.0', GC: '1.1.0', STATUS: '1.1.0' };

function partsOf(version: string): number[] {
  const parts = version.split('.');
  if (parts.length > 3 || !parts.every((part) => /^\d{1,6}$/.test(part)))
    throw new CniError(cniCode.decode, `failed to convert version "${version}"`);
  return [0, 1, 2].map((at) => Number(parts[at] ?? 0));
}

function compareVersions(a: string, b: string): number {
  const of = [partsOf(a), partsOf(b)] as const;
  for (const at of [0, 1, 2]) {
    const difference = (of[0][at] ?? 0) - (of[1][at] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

/**
 * Checks that a configuration's version is spoken and has the verb, in the reference library's order.
 * Errors: 6 for what is no version, 1 for one that does not have the verb or is not spoken.
 */
export function checkVersion(version: string, command: string): CniVersion {
  const least = firstWith[command];
  if (least !== undefined) {
    if (compareVersions(version, least) < 0)
      throw new CniError(cniCode.incompatibleVersion, `config version does not allow ${command}`);
    if (compareVersions(version, latestVersion) > 0)
      throw new CniError(cniCode.incompatibleVersion, `plugin version does not allow ${command}`);
  }
  if (isSupported(version)) return version;
  const spoken = supportedVersions.map((each) => `"${each}"`).join(' ');
  const details = `config is ${JSON.stringify(version)}, plugin supports [${spoken}]`;
  throw new CniError(cniCode.incompatibleVersion, 'incompatible CNI versions', details);
}
