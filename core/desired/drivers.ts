import type { DriverName } from '../model.js';
import { bridgeDriver } from './bridge.js';
import type { Driver } from './driver.js';
import { macvlanDriver } from './macvlan.js';
import { overlayDriver } from './overlay.js';

/** Every driver by its name. */
export const drivers: Readonly<Record<DriverName, Driver>> = {
  overlay: overlayDriver,
  bridge: bridgeDriver,
  macvlan: macvlanDriver,
};

/** The driver that realises networks of this kind. */
export function driverOf(name: DriverName): Driver {
  return drivers[name];
}
