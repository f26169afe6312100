import { TsnetError } from '../core/errors.js';
import type { NativeApi } from '../native/api.js';
import { AddonError, loadNative } from '../native/index.js';

/** The addon. Errors: ERR_NATIVE_MISSING, ERR_NATIVE_OUTDATED when it is not of this program. */
export function openAddon(): NativeApi {
  try {
    return loadNative();
  } catch (error) {
    if (!(error instanceof AddonError)) throw error;
    const code = error.reason === 'outdated' ? 'ERR_NATIVE_OUTDATED' : 'ERR_NATIVE_MISSING';
    throw new TsnetError(code, error.message, { cause: error });
  }
}
