import { Type } from 'typebox';
import type * as api from './api.js';
import type { ErrorBody } from './errors.js';
import { errorRegistry, type ErrorCode } from './errors.js';
import * as part from './schema-part.js';
import { closed, orNull, shapeOf, text } from './schema-part.js';
import * as record from './schema-record.js';

/**
 * JSON Schemas of every request, answer and stream line in `api.ts`; those of the records are in
 * `schema-record.ts`. Both HTTP servers check with them and `/openapi.json` is made of them.
 *
 * Source: JSON Schema draft 7, the draft of fastify's default validator.
 */

/** A batch of a host's records; more go into the next one. */
const BATCH = 100;

// ── networks ────────────────────────────────────────────────────────────────

export const subnetRequestSchema = shapeOf<api.SubnetRequest>()(
  Type.Object(
    {
      subnet: part.cidrText,
      gateway: Type.Optional(part.addrText),
      range: Type.Optional(part.cidrText),
    },
    { ...closed, description: 'A subnet asked for' },
  ),
);

const subnetRequests = Type.Array(subnetRequestSchema, { maxItems: 32, description: 'Subnets of either family' });

const joinList = Type.Array(part.networkRef, { maxItems: 64, description: 'Networks to route to and from' });

export const networkCreateSchema = shapeOf<api.NetworkCreate>()(
  Type.Object(
    {
      name: part.networkName,
      driver: Type.Optional(part.driver),
      subnets: Type.Optional(subnetRequests),
      ipv6: Type.Optional(Type.Boolean({ description: 'Adds an IPv6 subnet from the pool where none is given' })),
      internal: Type.Optional(Type.Boolean({ description: 'No way out of the network' })),
      mtu: Type.Optional(part.mtu),
      labels: Type.Optional(part.labels),
      options: Type.Optional(part.driverOptions),
      join: Type.Optional(joinList),
    },
    {
      ...closed,
      description: 'A network to make',
      examples: [{ name: 'frontend' }, { name: 'backend', subnets: [{ subnet: '10.1.0.0/24' }] }],
    },
  ),
);

export const networkUpdateSchema = shapeOf<api.NetworkUpdate>()(
  Type.Object(
    {
      labels: Type.Optional(part.labelChange),
      addSubnets: Type.Optional(subnetRequests),
      join: Type.Optional(joinList),
      unjoin: Type.Optional(joinList),
    },
    { ...closed, description: 'A change of a network', examples: [{ labels: { tier: 'front' } }] },
  ),
);

export const networkViewSchema = shapeOf<api.NetworkView>()(
  Type.Object(
    {
      id: part.networkId,
      name: part.networkName,
      driver: part.driver,
      subnets: Type.Array(record.subnetSchema, { maxItems: 64 }),
      vni: orNull(part.count('VXLAN network identifier', 2 ** 24 - 1)),
      mtu: part.mtu,
      internal: Type.Boolean(),
      labels: part.labels,
      options: part.driverOptions,
      joined: Type.Optional(Type.Array(part.networkName, { maxItems: 64 })),
      createdAt: part.timeText,
      generation: part.generation,
    },
    { ...closed, description: 'Network' },
  ),
);

// ── endpoints and hosts ─────────────────────────────────────────────────────

export const endpointQuerySchema = Type.Object(
  { network: Type.Optional(part.networkRef), host: Type.Optional(part.hostName) },
  { ...closed, description: 'Which endpoints to list' },
);

export const endpointViewSchema = shapeOf<api.EndpointView>()(
  Type.Object(
    {
      id: part.endpointId,
      name: orNull(part.endpointName),
      aliases: part.aliases,
      network: part.networkName,
      host: part.hostName,
      addresses: part.addresses,
      mac: part.macText,
      ifname: part.ifname,
      sandbox: orNull(part.target),
      generation: part.generation,
      state: part.endpointState,
      labels: part.labels,
      callerId: part.callerId,
      ports: Type.Optional(Type.Array(record.portMappingSchema, { maxItems: part.maxPortMappings })),
      bandwidth: Type.Optional(record.bandwidthSchema),
      draining: Type.Optional(Type.Boolean()),
      createdAt: part.timeText,
    },
    { ...closed, description: 'Endpoint' },
  ),
);

export const hostViewSchema = shapeOf<api.HostView>()(
  Type.Object(
    {
      name: part.hostName,
      vtep: part.addrText,
      state: Type.Enum(['up', 'down', 'unknown'], { description: 'Whether the host lives' }),
      lastSeen: part.timeText,
      underlayMtu: part.mtu,
      version: part.version,
    },
    { ...closed, description: 'Host' },
  ),
);

export const hostTokenRequestSchema = Type.Object({}, { ...closed, description: 'Nothing has to be said' });

export const hostTokenSchema = shapeOf<api.HostToken>()(
  Type.Object(
    { host: part.hostName, token: text('Bearer token, told only once', '0'.repeat(64)) },
    { ...closed, description: "A host's own token" },
  ),
);

export const hostRecordsSchema = shapeOf<api.HostRecords>()(
  Type.Object(
    {
      host: record.hostSchema,
      endpoints: Type.Array(record.endpointSchema),
      carriers: Type.Array(record.carrierSchema),
      blocks: Type.Array(record.blockSchema),
      networks: Type.Array(record.networkSchema, { description: 'Those that the others speak of' }),
    },
    { ...closed, description: 'All that the store has of a host' },
  ),
);

export const hostRemovalQuerySchema = Type.Object(
  { force: Type.Optional(Type.Boolean({ description: 'Remove a host that is not known to be down' })) },
  { ...closed, description: 'How to remove a host' },
);

export const hostRemovalSchema = shapeOf<api.HostRemoval>()(
  Type.Object(
    { name: part.hostName, blocks: part.count('Blocks returned'), endpoints: part.count('Endpoints removed') },
    { ...closed, description: 'What was removed with a host' },
  ),
);

export const controllerStatusSchema = shapeOf<api.ControllerStatus>()(
  Type.Object(
    {
      version: part.version,
      epoch: Type.String({ maxLength: 64, description: 'Epoch of the store' }),
      revision: part.revision,
      store: Type.Enum(['ok', 'unreachable'], { description: 'Whether the store answers' }),
      networks: part.count('Networks'),
      hosts: part.count('Hosts'),
      endpoints: part.count('Endpoints'),
    },
    { ...closed, description: 'Status of a controller' },
  ),
);

// ── policies ────────────────────────────────────────────────────────────────

export const policyBodySchema = shapeOf<api.PolicyBody>()(record.policyBodySchema);

export const policyViewSchema = shapeOf<api.PolicyView>()(
  Type.Object(
    {
      ...record.policyBodySchema.properties,
      createdAt: part.timeText,
      generation: part.generation,
      selected: part.count('Endpoints selected now'),
      warnings: Type.Array(Type.String({ maxLength: 1024 }), { maxItems: 1000 }),
    },
    { ...closed, description: 'Policy' },
  ),
);

export const policyQuestionSchema = shapeOf<api.PolicyQuestion>()(
  Type.Object(
    {
      from: text('Name, id or address', 'web'),
      to: text('Name, id or address', '10.1.0.5'),
      protocol: Type.Enum(['tcp', 'udp', 'sctp', 'icmp'], { description: 'Protocol' }),
      port: part.count('Port; 0 for icmp', 65_535),
    },
    { ...closed, description: 'Which connection is asked about' },
  ),
);

const policyVerdict = Type.Object(
  {
    allowed: Type.Boolean(),
    policies: Type.Array(Type.String({ maxLength: 63 }), { maxItems: 10_000 }),
    rule: orNull(Type.String({ maxLength: 256 })),
    reason: Type.String({ maxLength: 1024 }),
  },
  closed,
);

export const policyAnswerSchema = shapeOf<api.PolicyAnswer>()(
  Type.Object(
    {
      from: part.addrText,
      to: part.addrText,
      allowed: Type.Boolean(),
      egress: policyVerdict,
      ingress: policyVerdict,
    },
    { ...closed, description: 'What policies say to one pair of addresses' },
  ),
);

// ── services ────────────────────────────────────────────────────────────────

const serviceFields = record.serviceFieldsSchema.properties;

const servicePortRequests = Type.Array(
  Type.Object(
    { port: part.port, target: Type.Optional(part.port), protocol: Type.Optional(part.portProtocol) },
    closed,
  ),
  { maxItems: 64 },
);
const servicePublishRequests = Type.Array(
  Type.Object({ hostPort: part.port, port: Type.Optional(part.port) }, closed),
  {
    maxItems: 64,
  },
);

export const serviceCreateSchema = shapeOf<api.ServiceCreate>()(
  Type.Object(
    {
      name: serviceFields.name,
      network: part.networkRef,
      mode: Type.Optional(serviceFields.mode),
      addresses: Type.Optional(part.addresses),
      ports: servicePortRequests,
      selector: serviceFields.selector,
      backends: serviceFields.backends,
      affinity: Type.Optional(serviceFields.affinity),
      health: serviceFields.health,
      publish: Type.Optional(servicePublishRequests),
      drainMs: Type.Optional(serviceFields.drainMs),
    },
    {
      ...closed,
      description: 'A service',
      examples: [{ name: 'web', network: 'frontend', ports: [{ port: 80, target: 8080 }], selector: { app: 'web' } }],
    },
  ),
);

export const serviceUpdateSchema = shapeOf<api.ServiceUpdate>()(
  Type.Object(
    {
      ports: Type.Optional(servicePortRequests),
      selector: serviceFields.selector,
      backends: serviceFields.backends,
      affinity: Type.Optional(serviceFields.affinity),
      health: Type.Optional(orNull(record.serviceHealthSchema)),
      publish: Type.Optional(servicePublishRequests),
      drainMs: Type.Optional(serviceFields.drainMs),
      drain: Type.Optional(Type.Array(part.callerId, { maxItems: 1024 })),
      undrain: Type.Optional(Type.Array(part.callerId, { maxItems: 1024 })),
      generation: Type.Optional(part.generation),
    },
    {
      ...closed,
      description: 'A change of a service; what is not given stays',
      examples: [{ ports: [{ port: 80, target: 8081 }], generation: 3 }],
    },
  ),
);

const serviceBackendSchema = Type.Object(
  {
    endpoint: part.endpointId,
    name: orNull(part.endpointName),
    host: part.hostName,
    addresses: part.addresses,
    state: Type.Enum(['ready', 'failing', 'draining', 'down'], { description: 'Whether it gets new connections' }),
  },
  closed,
);

export const serviceViewSchema = shapeOf<api.ServiceView>()(
  Type.Object(
    {
      ...serviceFields,
      network: part.networkName,
      addresses: part.addresses,
      endpoints: Type.Array(serviceBackendSchema),
      held: Type.Optional(Type.Array(record.heldPortViewSchema)),
      createdAt: part.timeText,
      generation: part.generation,
    },
    { ...closed, description: 'Service' },
  ),
);

// ── host to controller ──────────────────────────────────────────────────────

export const hostRegisterSchema = shapeOf<api.HostRegister>()(
  Type.Object(
    {
      vtep: part.addrText,
      underlayMtu: part.mtu,
      bootId: record.hostSchema.properties.bootId,
      instance: record.hostSchema.properties.instance,
      version: part.version,
    },
    { ...closed, description: 'A host making itself known' },
  ),
);

export const hostRegisteredSchema = shapeOf<api.HostRegistered>()(
  Type.Object(
    { host: record.hostSchema, settings: record.clusterSettingsSchema, epoch: record.cursorSchema.properties.epoch },
    { ...closed, description: 'Answer to a host making itself known' },
  ),
);

export const blockRequestSchema = shapeOf<api.BlockRequest>()(
  Type.Object(
    {
      network: part.networkId,
      subnet: part.cidrText,
      address: Type.Optional(part.addrText),
      ahead: Type.Optional(Type.Boolean()),
    },
    {
      ...closed,
      description: 'A host asking for addresses',
      examples: [{ network: '0123abcd', subnet: '10.1.0.0/24' }],
    },
  ),
);

export const blockGrantSchema = shapeOf<api.BlockGrant>()(
  Type.Object({ block: record.blockSchema }, { ...closed, description: 'A block granted' }),
);

export const blockReleaseSchema = shapeOf<api.BlockRelease>()(
  Type.Object(
    { network: part.networkId, cidr: part.cidrText, generation: part.generation },
    { ...closed, description: 'A block returned' },
  ),
);

export const carveAnswerSchema = shapeOf<api.CarveAnswer>()(
  Type.Object(
    {
      address: orNull(part.addrText),
      holder: Type.Optional(text('Who holds the address', 'endpoint web (0123456789abcdef)')),
    },
    { ...closed, description: "The owner's answer to a carve" },
  ),
);

const carrierGone = Type.Object({ network: part.networkId, generation: part.generation }, closed);
const endpointGone = Type.Object({ network: part.networkId, id: part.endpointId, generation: part.generation }, closed);

export const publicationSchema = shapeOf<api.Publication>()(
  Type.Object(
    {
      carriers: Type.Optional(Type.Array(record.carrierSchema, { maxItems: BATCH })),
      carriersGone: Type.Optional(Type.Array(carrierGone, { maxItems: BATCH })),
      endpoints: Type.Optional(Type.Array(record.endpointSchema, { maxItems: BATCH })),
      endpointsGone: Type.Optional(Type.Array(endpointGone, { maxItems: BATCH })),
      blocks: Type.Optional(Type.Array(record.blockSchema, { maxItems: BATCH })),
      networks: Type.Optional(Type.Array(record.networkSchema, { maxItems: BATCH })),
      services: Type.Optional(Type.Array(record.serviceSchema, { maxItems: BATCH })),
    },
    { ...closed, description: 'What a host says of itself, 100 records at most in all' },
  ),
);

const refusal = Type.Object(
  {
    key: text('kind/network/id', 'endpoint/0123abcd/0123456789abcdef', 512),
    code: text('Error code', 'ERR_STALE_GENERATION', 64),
    message: Type.String({ maxLength: 4096 }),
  },
  closed,
);

export const publicationResultSchema = shapeOf<api.PublicationResult>()(
  Type.Object(
    { refused: Type.Array(refusal, { maxItems: 7 * BATCH }) },
    { ...closed, description: 'The records refused' },
  ),
);

// ── watch stream ────────────────────────────────────────────────────────────

const interest = Type.Array(part.networkId, { maxItems: 10_000, description: 'Network ids' });
const streamId = part.idText('stream', 'Stream id');

export const watchRequestSchema = shapeOf<api.WatchRequest>()(
  Type.Object(
    { instance: record.hostSchema.properties.instance, cursor: Type.Optional(record.cursorSchema), interest },
    { ...closed, description: 'A host asking for changes' },
  ),
);

export const interestChangeSchema = shapeOf<api.InterestChange>()(
  Type.Object(
    { stream: streamId, add: Type.Optional(interest), remove: Type.Optional(interest) },
    { ...closed, description: 'Networks a host takes up or drops' },
  ),
);

const entryValues = {
  network: record.networkSchema,
  carrier: record.carrierSchema,
  endpoint: record.endpointSchema,
  block: record.blockSchema,
  carve: record.carveSchema,
  settings: record.clusterSettingsSchema,
  policy: record.policySchema,
  service: record.serviceSchema,
} as const;

const entryOf = <K extends keyof typeof entryValues>(kind: K) => ({
  kind: Type.Literal(kind),
  value: entryValues[kind],
});

const putOf = <K extends keyof typeof entryValues>(kind: K) =>
  Type.Object({ type: Type.Literal('put'), revision: part.revision, ...entryOf(kind) }, closed);

export const entrySchema = shapeOf<api.Entry>()(
  Type.Union([
    Type.Object(entryOf('network'), closed),
    Type.Object(entryOf('carrier'), closed),
    Type.Object(entryOf('endpoint'), closed),
    Type.Object(entryOf('block'), closed),
    Type.Object(entryOf('carve'), closed),
    Type.Object(entryOf('settings'), closed),
    Type.Object(entryOf('policy'), closed),
    Type.Object(entryOf('service'), closed),
  ]),
);

const scope = Type.String({ pattern: '^([*]|[0-9a-f]{8})$', maxLength: 8, description: '"*" or a network id' });

export const watchLineSchema = shapeOf<api.WatchLine>()(
  Type.Union(
    [
      Type.Object(
        {
          type: Type.Literal('hello'),
          stream: streamId,
          epoch: record.cursorSchema.properties.epoch,
          revision: part.revision,
          beatMs: part.count('Longest pause between two lines, in milliseconds', 3_600_000, 1),
          resumed: Type.Boolean({ description: 'Whether the stream goes on at the cursor' }),
        },
        closed,
      ),
      Type.Object({ type: Type.Literal('begin'), scope, revision: part.revision }, closed),
      putOf('network'),
      putOf('carrier'),
      putOf('endpoint'),
      putOf('block'),
      putOf('carve'),
      putOf('settings'),
      putOf('policy'),
      putOf('service'),
      Type.Object(
        {
          type: Type.Literal('gone'),
          revision: part.revision,
          kind: Type.Enum(['network', 'carrier', 'endpoint', 'block', 'carve', 'settings', 'policy', 'service']),
          network: Type.String({ maxLength: 8 }),
          id: Type.String({ maxLength: 256 }),
          generation: part.generation,
        },
        closed,
      ),
      Type.Object({ type: Type.Literal('end'), scope, revision: part.revision }, closed),
      Type.Object(
        {
          type: Type.Literal('beat'),
          revision: part.revision,
          down: Type.Optional(Type.Array(Type.String({ maxLength: 253 }), { maxItems: 10_000 })),
        },
        closed,
      ),
      Type.Object(
        {
          type: Type.Literal('bye'),
          code: text('Error code', 'ERR_STOPPING', 64),
          message: Type.String({ maxLength: 4096 }),
        },
        closed,
      ),
    ],
    { description: 'One line of the stream' },
  ),
);

// ── agent's local interface ─────────────────────────────────────────────────

export const portRequestSchema = shapeOf<api.PortRequest>()(
  Type.Object(
    {
      hostAddress: Type.Optional(orNull(part.addrText)),
      hostPort: part.count('Port of the host; 0: the agent chooses', 65_535),
      hostPortEnd: Type.Optional(part.count('Last port of the host', 65_535)),
      port: part.port,
      portEnd: Type.Optional(part.port),
      protocol: Type.Optional(part.portProtocol),
    },
    { ...closed, description: 'A port or range to publish', examples: [{ hostPort: 8080, port: 80 }] },
  ),
);

export const portViewSchema = shapeOf<api.PortView>()(
  Type.Object(
    {
      ...record.portMappingSchema.properties,
      endpoint: part.endpointId,
      name: orNull(part.endpointName),
      network: part.networkName,
      addresses: part.addresses,
    },
    { ...closed, description: 'A published port of this host' },
  ),
);

const attachFields = {
  network: part.networkRef,
  ifname: Type.Optional(part.ifname),
  name: Type.Optional(part.endpointName),
  aliases: Type.Optional(part.aliases),
  addresses: Type.Optional(part.addresses),
  mac: Type.Optional(part.macText),
  labels: Type.Optional(part.labels),
  defaultRoute: Type.Optional(Type.Boolean({ description: 'Whether the default route goes this way' })),
  ports: Type.Optional(Type.Array(portRequestSchema, { maxItems: part.maxPortMappings })),
  bandwidth: Type.Optional(record.bandwidthSchema),
};

export const attachRequestSchema = shapeOf<api.ConnectRequest>()(
  Type.Object(
    {
      ...attachFields,
      target: part.target,
      id: Type.Optional(part.callerId),
      setDns: Type.Optional(Type.Boolean({ description: 'Whether to write /etc/resolv.conf of the container' })),
    },
    {
      ...closed,
      description: 'A sandbox to attach to a network',
      examples: [{ network: 'frontend', target: 'netns:/run/netns/web', name: 'web' }],
    },
  ),
);

/** Step 1 of an attach: no sandbox yet, so the caller's id must be given. */
export const reserveRequestSchema = shapeOf<Omit<api.AttachRequest, 'target'>>()(
  Type.Object(
    { ...attachFields, id: part.callerId },
    { ...closed, description: 'Addresses to reserve', examples: [{ network: 'frontend', id: 'web-1' }] },
  ),
);

export const detachRequestSchema = shapeOf<api.DetachRequest>()(
  Type.Object(
    {
      network: part.networkRef,
      target: Type.Optional(part.target),
      id: Type.Optional(part.callerId),
      ifname: Type.Optional(part.ifname),
      drainMs: Type.Optional(serviceFields.drainMs),
    },
    { ...closed, description: 'What to detach: by target or by the id of the attach' },
  ),
);

export const detachResultSchema = shapeOf<api.DetachResult>()(
  Type.Object(
    {
      detached: Type.Array(part.endpointId, { maxItems: 4096 }),
      left: Type.Optional(Type.Array(Type.String({ maxLength: 4096 }), { maxItems: 4096 })),
    },
    { ...closed, description: 'Endpoints removed' },
  ),
);

export const stepRequestSchema = shapeOf<api.StepRequest>()(
  Type.Object(
    { endpoint: part.endpointId, target: Type.Optional(part.target), defaultRoute: attachFields.defaultRoute },
    { ...closed, description: 'The next step of an attach' },
  ),
);

export const endpointUpdateSchema = shapeOf<api.EndpointUpdate>()(
  Type.Object(
    {
      labels: Type.Optional(part.labelChange),
      aliases: Type.Optional(part.aliases),
      ports: Type.Optional(Type.Array(portRequestSchema, { maxItems: part.maxPortMappings })),
      draining: Type.Optional(Type.Boolean()),
    },
    { ...closed, description: 'A change of an endpoint' },
  ),
);

const failing = Type.Object(
  { object: Type.String({ maxLength: 512 }), error: Type.String({ maxLength: 4096 }) },
  closed,
);
const warning = Type.Object(
  { code: text('Error code', 'ERR_MTU_UNDERLAY', 64), message: Type.String({ maxLength: 4096 }) },
  closed,
);

export const agentStatusSchema = shapeOf<api.AgentStatus>()(
  Type.Object(
    {
      version: part.version,
      host: part.hostName,
      vtep: part.addrText,
      controller: orNull(text('URL of the controller in use', 'http://198.18.0.1:7410', 2048)),
      cursor: orNull(record.cursorSchema),
      endpoints: part.count('Endpoints of this host'),
      networks: part.count('Networks this host carries'),
      unpublished: part.count('Records not yet acknowledged by a controller'),
      reconcile: Type.Object(
        {
          objects: part.count('Kernel objects wanted'),
          repairs: part.count('Repairs since the start'),
          failing: Type.Array(failing, { maxItems: 10_000 }),
        },
        closed,
      ),
      firewall: Type.Optional(Type.Object({ repairs: part.count('Repairs of the rule set since the start') }, closed)),
      warnings: Type.Array(warning, { maxItems: 1000 }),
    },
    { ...closed, description: 'Status of an agent' },
  ),
);

// ── errors ──────────────────────────────────────────────────────────────────

const errorCodes = Object.keys(errorRegistry) as ErrorCode[];
const detailValue = Type.Union([Type.String(), Type.Number(), Type.Boolean(), Type.Array(Type.String())]);

export const errorBodySchema = shapeOf<ErrorBody>()(
  Type.Object(
    {
      code: Type.Enum(errorCodes, { description: 'Stable code' }),
      message: Type.String({ description: 'Names the field and the value' }),
      hint: Type.String({ description: 'What to do next' }),
      details: Type.Record(Type.String(), detailValue, { description: 'Values of the message, by name' }),
    },
    { ...closed, description: 'Error' },
  ),
);

export const dnsQueryRequestSchema = Type.Object(
  {
    name: Type.String({ minLength: 1, maxLength: 255 }),
    type: Type.Optional(Type.String({ maxLength: 16, pattern: '^[A-Za-z0-9]+$' })),
    from: Type.Optional(Type.String({ minLength: 1, maxLength: 4200 })),
  },
  { additionalProperties: false },
);
