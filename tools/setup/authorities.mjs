/**
 * Node 20 reads NODE_EXTRA_CA_CERTS at each start, needed or not: 90 ms of processor time for the 215 KiB of Debian's
 * authorities, where a start takes 35. Set-up has downloaded by then; tests and benchmarks start thousands, which
 * ask nobody outside.
 */
export function forgetExtraAuthorities() {
  delete process.env.NODE_EXTRA_CA_CERTS;
}
