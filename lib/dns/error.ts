/** Bytes or texts that are no DNS message or name. */
export class DnsError extends Error {
  override readonly name = 'DnsError';
}
