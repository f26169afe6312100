import { checkDriverOptions as checkOptions } from '../core/desired/option.js';
import { parseIfname } from '../core/name.js';
import type { DriverName } from '../core/model.js';

type Options = Readonly<Record<string, string>>;

const defaults: Readonly<Record<DriverName, Options>> = {
  overlay: {},
  bridge: {},
  macvlan: { mode: 'bridge', 'host-shim': 'false' },
};

/**
 * Checks a network's driver options and fills in defaults.
 * Errors: ERR_INVALID_OPTION; ERR_INVALID_IFNAME for a macvlan parent.
 */
export function checkDriverOptions(driver: DriverName, options: Options): Options {
  const { parent } = options;
  if (driver === 'macvlan' && parent !== undefined) parseIfname(parent, 'options.parent');
  checkOptions(driver, options);
  return { ...defaults[driver], ...options };
}
