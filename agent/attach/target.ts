import { TsnetError } from '../../core/errors.js';
import type { NativeApi, NativeError, NetnsHandle, NetnsRef } from '../../native/api.js';

/** Where a caller says a sandbox is: `pid:N` or `netns:PATH`. */
export type Target = { readonly text: string; readonly ref: NetnsRef };

/** Parses a target. Errors: ERR_INVALID_TARGET. */
export function parseTarget(text: string): Target {
  const match = /^(pid|netns):(.+)$/s.exec(text);
  const [, scheme, rest] = match ?? [];
  if (scheme === 'pid' && rest !== undefined && /^[1-9]\d{0,9}$/.test(rest))
    return { text, ref: { pid: Number(rest) } };
  if (scheme === 'netns' && rest !== undefined && rest.startsWith('/') && rest.length <= 4096 && !rest.includes('\0')) {
    return { text, ref: { path: rest } };
  }
  throw new TsnetError('ERR_INVALID_TARGET', `target "${text}" is neither pid:N nor netns:/PATH`, {
    details: { field: 'target', value: text },
  });
}

/**
 * Opens a target's namespace. The handle keeps the namespace alive: close it as soon as its link is made.
 * Errors: ERR_SANDBOX_MISSING, ERR_SANDBOX_IS_HOST, ERR_INVALID_TARGET when the path is no namespace.
 */
export async function openTarget(native: NativeApi, target: Target): Promise<NetnsHandle> {
  let handle: NetnsHandle;
  try {
    handle = await native.netnsOpen(target.ref);
  } catch (error) {
    throw targetError(target, error);
  }
  if (handle.cookie === native.netnsOwnCookie()) {
    handle.close();
    throw new TsnetError('ERR_SANDBOX_IS_HOST', `${target.text} is in the host's own network namespace`, {
      details: { target: target.text },
    });
  }
  return handle;
}

/** What setns() and open() say of everything that a path can lead to but a namespace. */
const isNoNamespace: ReadonlySet<string> = new Set(['EINVAL', 'EISDIR', 'ENOTTY', 'ENXIO', 'ELOOP', 'ENAMETOOLONG']);

function targetError(target: Target, error: unknown): TsnetError {
  const code = (error as Partial<NativeError>).code;
  const details = { target: target.text };
  if (code === 'ENOENT' || code === 'ENOTDIR' || code === 'ESRCH') {
    return new TsnetError('ERR_SANDBOX_MISSING', `${target.text}: there is no such process or namespace`, {
      details,
      cause: error,
    });
  }
  if (isNoNamespace.has(String(code))) {
    return new TsnetError('ERR_INVALID_TARGET', `${target.text} is not a network namespace`, { details, cause: error });
  }
  const reason = error instanceof Error ? error.message : String(error);
  return new TsnetError('ERR_KERNEL', `${target.text}: ${reason}`, { details, cause: error });
}
