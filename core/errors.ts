/**
 * The one registry of errors a user or another process can see. Per code: what it means, the hint,
 * HTTP status, CLI exit code, CNI code, and whether the same call may succeed later.
 *
 * Codes are stable; messages name the field and the value. `docs/errors.md` has one section a code.
 */

interface ErrorEntry {
  /** HTTP status at the API. */
  readonly http: number;
  /** Exit status of the CLI. */
  readonly exit: number;
  /** CNI error code (CNI spec 1.1.0 "Error codes"; 100 and up are ours). */
  readonly cni: number;
  /** Whether the same call may succeed later without anybody changing anything. */
  readonly retryable: boolean;
  /** What to do next, one imperative sentence; may be overridden where more is known. */
  readonly hint: string;
}

const bad = (hint: string, cni = 7): ErrorEntry => ({ http: 400, exit: 1, cni, retryable: false, hint });
const missing = (hint: string, cni = 7): ErrorEntry => ({ http: 404, exit: 1, cni, retryable: false, hint });
const conflict = (hint: string, cni = 100): ErrorEntry => ({ http: 409, exit: 1, cni, retryable: false, hint });
const later = (hint: string, http = 503): ErrorEntry => ({ http, exit: 1, cni: 11, retryable: true, hint });

export const errorRegistry = {
  // requests
  ERR_USAGE: {
    http: 400,
    exit: 2,
    cni: 7,
    retryable: false,
    hint: 'See `tsnet help` for the command and its examples.',
  },
  ERR_INVALID_REQUEST: bad('Correct the field named in the message.'),
  ERR_INVALID_NAME: bad(
    'Use letters, digits, "-", "_" and ".", beginning with a letter or digit, 63 characters at most.',
  ),
  ERR_INVALID_ADDRESS: bad('Write IPv4 as 10.1.0.5 and IPv6 as fd00::5, without leading zeros.'),
  ERR_INVALID_CIDR: bad(
    'Write a subnet as its first address and prefix length, for example 10.1.0.0/24 or fd00:1::/64.',
  ),
  ERR_INVALID_MAC: bad('Write six pairs of hexadecimal digits, for example 02:00:0a:01:00:05; the first must be even.'),
  ERR_INVALID_MTU: bad('Choose an MTU from 1280 (576 without IPv6) to what the underlay carries.'),
  ERR_INVALID_OPTION: bad('See docs/drivers.md for the options of each driver.'),
  ERR_INVALID_TARGET: bad('Name a running sandbox: pid:N, netns:PATH, or a name in /run/netns.', 4),
  ERR_NOT_FOUND: missing('Check the path against /openapi.json.'),
  ERR_UNAUTHENTICATED: {
    http: 401,
    exit: 1,
    cni: 100,
    retryable: false,
    hint: 'Give the token file that the controller made: --token-file DATA-DIR/admin.token or host.token.',
  },
  ERR_FORBIDDEN: {
    http: 403,
    exit: 1,
    cni: 100,
    retryable: false,
    hint: 'Ask a controller itself with the admin token: --controller URL --token-file DATA-DIR/admin.token.',
  },
  ERR_TOO_LARGE: { http: 413, exit: 1, cni: 7, retryable: false, hint: 'Send a smaller request.' },
  ERR_INTERNAL: {
    http: 500,
    exit: 1,
    cni: 999,
    retryable: false,
    hint: 'This is a defect in tsnet: please report it with the log lines around it.',
  },
  // networks
  ERR_NETWORK_UNKNOWN: missing('Make it with `tsnet create NAME`, or see `tsnet ls`.'),
  ERR_NETWORK_NAME_IN_USE: conflict('Choose another name, or remove that network with `tsnet rm NAME`.'),
  ERR_NETWORK_IN_USE: conflict('Disconnect the endpoints named in the message first.'),
  ERR_JOIN_UNSUPPORTED: bad('See "Joined networks" in docs/ports.md for which networks can route to each other.'),
  ERR_SUBNET_OVERLAP: conflict('Choose a subnet that overlaps nothing, or give none and let tsnet choose.'),
  ERR_SUBNET_POOL_EXHAUSTED: conflict(
    "Remove unused networks, widen the controller's --subnet-pool, or give --subnet.",
  ),
  ERR_SUBNET_TOO_SMALL: bad('Use a subnet with at least two usable addresses.'),
  ERR_GATEWAY_OUTSIDE_SUBNET: bad("Choose a gateway inside one of the network's subnets."),
  ERR_VNI_EXHAUSTED: conflict('Remove unused overlay networks.'),
  ERR_DRIVER_UNSUPPORTED: bad('See the table in docs/drivers.md.'),
  ERR_MTU_UNDERLAY: conflict('Create the network with a smaller --mtu, or raise the MTU of the underlay interfaces.'),
  // addresses
  ERR_ADDRESS_OUTSIDE_SUBNET: bad("Choose an address inside one of the network's subnets (and its --ip-range)."),
  ERR_ADDRESS_RESERVED: bad('Network, broadcast, gateway and host addresses cannot be given to an endpoint.'),
  ERR_ADDRESS_IN_USE: conflict('Choose another address, or remove the endpoint that holds it.'),
  ERR_ADDRESS_EXHAUSTED: conflict('Remove endpoints, or add a subnet with `tsnet update NAME --subnet CIDR`.', 11),
  ERR_ADDRESS_HELD_ELSEWHERE: later(
    'The owning host did not confirm in time: try again, or choose another address.',
    409,
  ),
  ERR_MAC_IN_USE: conflict('Choose another MAC, or none and let tsnet derive it.'),
  ERR_BLOCK_FENCED: conflict('The host lost this block while it was away; its endpoints must be connected again.'),
  ERR_NO_BLOCK: later(
    'The controller could not be reached and this host holds no free address of the network: try again.',
  ),
  // hosts
  ERR_HOST_UNKNOWN: missing('See `tsnet host ls`.'),
  ERR_HOST_ALIVE: conflict('Stop the agent on that host first, or pass --force.'),
  ERR_HOST_NAME_IN_USE: conflict('Another live agent uses this host name: give this one its own with --host-name.'),
  ERR_HOST_RENAMED: conflict(
    'Give it its old name with --host-name. For a new one, disconnect its containers, remove its --data-dir, and remove the old host with `tsnet host rm`.',
  ),
  ERR_UNDERLAY_DOWN: later('Set the interface up (`ip link set`), and look after its cable or its switch.'),
  ERR_UNDERLAY_UNKNOWN: later(
    'Give the interface its address, or name another one, or an address of this host, with --underlay.',
  ),
  // endpoints and sandboxes
  ERR_ENDPOINT_UNKNOWN: missing('See `tsnet endpoint ls`.', 3),
  ERR_ENDPOINT_EXISTS: conflict('Disconnect it first, or choose another --id or --ifname.'),
  ERR_SANDBOX_MISSING: missing(
    "Check the pid or path; a container is given by a pid of its own, as pid:$(docker inspect -f '{{.State.Pid}}' NAME).",
    3,
  ),
  ERR_SANDBOX_IS_HOST: bad("The target is in the host's own network namespace: start it in one of its own.", 8),
  ERR_RESOLV_CONF: conflict(
    'Connect without --set-dns, and give the container the settings of `tsnet dns resolv-conf` by its runtime.',
  ),
  ERR_IFNAME_IN_USE: conflict('Choose another --ifname: an interface of that name is there and is not ours.'),
  ERR_INVALID_IFNAME: bad('Use 1 to 15 characters without "/", ":" or white space.', 4),
  ERR_PORTS_EXHAUSTED: conflict('A bridge has 1023 ports on one host: use another network or another host.'),
  ERR_STALE_GENERATION: conflict('The record has changed since: read it again and repeat the change.'),
  // published ports
  ERR_INVALID_PORT: bad(
    'Write [HOSTIP:]HOSTPORT[-END]:PORT[-END][/tcp|udp|sctp], ports from 1 to 65535, both ranges of one length.',
  ),
  ERR_PORT_IN_USE: conflict(
    'Choose another host port, or 0 to let tsnet choose; or end what holds it, named in the message.',
  ),
  ERR_PORT_HOST_ADDRESS: bad('Name an address that this host has (`ip addr`), or leave it out for all of them.'),
  ERR_MASQUERADE_SOURCE: conflict('Give the host that address, or leave it: packets leave from another one.'),
  ERR_FORWARD_DROPPED: conflict(
    'Let the packets through by the command in the message, or change the policy of that chain.',
  ),
  ERR_PORT_INTERNAL: bad('An --internal network has no way in: publish on another network of the sandbox.'),
  // policies
  ERR_INVALID_POLICY: bad('Correct the field named in the message; docs/policy.md has the form and examples.'),
  ERR_POLICY_EXISTS: conflict(
    'Change it with `tsnet policy create --replace`, or remove it with `tsnet policy rm NAME`.',
  ),
  ERR_POLICY_UNKNOWN: missing('See `tsnet policy ls`.'),
  // services
  ERR_INVALID_SERVICE: bad(
    'Correct the field named in the message; docs/services.md has the options and their limits.',
  ),
  ERR_SERVICE_EXISTS: conflict('Choose another name, or remove it with `tsnet service rm NAME`.'),
  ERR_SERVICE_UNKNOWN: missing('See `tsnet service ls`; NAME.NETWORK names one of several.'),
  // kernel
  ERR_KERNEL: {
    http: 500,
    exit: 1,
    cni: 101,
    retryable: false,
    hint: "See the agent's log; `tsnet status` lists what is not repaired.",
  },
  ERR_PARENT_UNKNOWN: bad('Name an existing interface of this host with --opt parent=IFACE.'),
  ERR_VNI_CONFLICT: conflict(
    'Another VXLAN device on this host has this VNI: remove it, or create the network again to get another VNI.',
  ),
  ERR_LINK_CONFLICT: conflict("A link of that name exists and is not tsnet's: rename or remove it."),
  ERR_KERNEL_FEATURE: {
    http: 501,
    exit: 1,
    cni: 101,
    retryable: false,
    hint: 'Use a kernel with the feature named in the message.',
  },
  ERR_NATIVE_OUTDATED: {
    http: 500,
    exit: 1,
    cni: 101,
    retryable: false,
    hint: 'Program and addon are built together: run `npm run build`, or install both again, and start it once more.',
  },
  ERR_NATIVE_MISSING: { http: 500, exit: 1, cni: 101, retryable: false, hint: 'Build it with `npm run build`.' },
  // daemons and state
  ERR_AGENT_UNREACHABLE: later('Start the agent (`tsnet agent`), or name its socket with TSNET_AGENT_SOCKET.'),
  ERR_CONTROLLER_UNREACHABLE: later('Check that a controller runs and that its URL and port are reachable.'),
  ERR_STORE_UNREACHABLE: later('Check etcd: `etcdctl endpoint health`; the data path goes on meanwhile.'),
  ERR_STORE_CONFLICT: later('Many changed the same records at once: try again.', 409),
  ERR_STORE_CORRUPT: {
    http: 500,
    exit: 1,
    cni: 101,
    retryable: false,
    hint: "A record in etcd is not tsnet's: see the key in the message.",
  },
  ERR_ETCD_MISSING: {
    http: 500,
    exit: 1,
    cni: 101,
    retryable: false,
    hint: 'Install etcd (Debian: etcd-server), or give --etcd URL.',
  },
  ERR_ETCD_START: { http: 500, exit: 1, cni: 101, retryable: false, hint: 'See etcd.log in the data directory.' },
  ERR_JOURNAL_CORRUPT: {
    http: 500,
    exit: 1,
    cni: 101,
    retryable: false,
    hint: 'The damaged file was kept beside the journal; what it lost is rebuilt from the kernel and the store.',
  },
  ERR_AGENT_RUNNING: {
    http: 500,
    exit: 1,
    cni: 101,
    retryable: false,
    hint: 'A host has one agent: stop that one first, or start this one in a network namespace of its own.',
  },
  ERR_DATA_DIR_LOCKED: {
    http: 500,
    exit: 1,
    cni: 101,
    retryable: false,
    hint: 'Another tsnet runs with this data directory: stop it or use another.',
  },
  ERR_DATA_DIR_UNWRITABLE: {
    http: 500,
    exit: 1,
    cni: 101,
    retryable: false,
    hint: 'Make the data directory writable, or name another with --data-dir.',
  },
  ERR_DISK_FULL: later('Free space on the file system that holds the data directory.'),
  ERR_DEADLINE: later('It took longer than allowed: try again.', 504),
  ERR_DNS_UNAVAILABLE: later('See the log of the agent; `tsnet status` shows what hinders the name server.'),
  ERR_STOPPING: later('The daemon is stopping: try again when it is back.'),
  ERR_LISTEN: {
    http: 500,
    exit: 1,
    cni: 101,
    retryable: false,
    hint: 'Choose another --listen address, or stop what listens there.',
  },
  ERR_BUSY: later('Too many requests at once: try again in a moment.', 429),
  ERR_NOT_ROOT: { http: 403, exit: 1, cni: 101, retryable: false, hint: 'Run it as root.' },
  ERR_COMMAND_NOT_FOUND: { http: 400, exit: 127, cni: 7, retryable: false, hint: 'Check the command after "--".' },
} as const satisfies Record<string, ErrorEntry>;

export type ErrorCode = keyof typeof errorRegistry;
export type ErrorDetails = Readonly<Record<string, string | number | boolean | readonly string[]>>;

/** An error as it crosses a process boundary: the body of every non-2xx answer. */
export interface ErrorBody {
  readonly code: ErrorCode;
  readonly message: string;
  readonly hint: string;
  readonly details: ErrorDetails;
}

export interface TsnetErrorOptions {
  readonly details?: ErrorDetails;
  readonly hint?: string;
  readonly cause?: unknown;
}

/** Base of every error that a user or another process can see. */
export class TsnetError extends Error {
  readonly code: ErrorCode;
  readonly hint: string;
  readonly details: ErrorDetails;

  constructor(code: ErrorCode, message: string, options: TsnetErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'TsnetError';
    this.code = code;
    this.hint = options.hint ?? errorRegistry[code].hint;
    this.details = options.details ?? {};
  }

  get http(): number {
    return errorRegistry[this.code].http;
  }

  get exit(): number {
    return errorRegistry[this.code].exit;
  }

  get cni(): number {
    return errorRegistry[this.code].cni;
  }

  get retryable(): boolean {
    return errorRegistry[this.code].retryable;
  }

  toBody(): ErrorBody {
    return { code: this.code, message: this.message, hint: this.hint, details: this.details };
  }
}

/** Reports whether a value is an error body as `toBody` makes it. */
export function isErrorBody(value: unknown): value is ErrorBody {
  if (typeof value !== 'object' || value === null) return false;
  const body = value as Partial<ErrorBody>;
  return typeof body.code === 'string' && body.code in errorRegistry && typeof body.message === 'string';
}

/** Rebuilds the error that another process sent. */
export function fromErrorBody(body: ErrorBody): TsnetError {
  const hint = typeof body.hint === 'string' ? { hint: body.hint } : {};
  return new TsnetError(body.code, body.message, { ...hint, details: body.details ?? {} });
}

/** Turns anything thrown into a TsnetError; what has no code of its own is ERR_INTERNAL. */
export function toTsnetError(thrown: unknown): TsnetError {
  if (thrown instanceof TsnetError) return thrown;
  const message = thrown instanceof Error ? thrown.message : String(thrown);
  return new TsnetError('ERR_INTERNAL', message, { cause: thrown });
}
