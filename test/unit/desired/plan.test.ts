import fc from 'fast-check';
import t from 'tap';
import { floodMac, type KernelObject } from '../../../core/kernel.js';
import {
  isAsDesired,
  isLink,
  keyOf,
  linkNameOf,
  withImplied,
  type ObservedObject,
  type ReconcileObject,
} from '../../../agent/reconcile/object.js';
import { planOperations, type LinkState, type Plan } from '../../../agent/reconcile/plan.js';

/** A kernel that is a map: it knows what goes with a link, and refuses what the real one refuses. */
class ModelKernel {
  readonly objects = new Map<string, ObservedObject>();
  constructor(
    objects: readonly ReconcileObject[],
    readonly foreign: ReadonlySet<string>,
  ) {
    for (const object of objects) this.objects.set(keyOf(object), object);
  }

  readonly linkState = (name: string): LinkState => {
    if (this.foreign.has(name)) return 'foreign';
    return this.objects.has(`link ${name}`) || name.startsWith('tsv-') ? 'ours' : 'absent';
  };

  apply(plan: Plan): void {
    for (const { verb, key, object } of plan.operations) {
      if (this.foreign.has(linkNameOf(object))) throw new Error(`touches the foreign link ${linkNameOf(object)}`);
      if (verb === 'remove') this.#remove(key, object);
      else this.#set(verb, key, object);
    }
  }

  #set(verb: 'add' | 'change', key: string, object: ReconcileObject): void {
    if (verb === 'add' && this.objects.has(key)) throw new Error(`EEXIST ${key}`);
    if (!isLink(object) && this.linkState(object.link) !== 'ours') throw new Error(`ENODEV ${key}`);
    for (const other of this.objects.values()) {
      if (verb !== 'add') break;
      if (object.kind === 'vxlan' && other.kind === 'vxlan' && other.vni === object.vni)
        throw new Error(`EEXIST VNI ${object.vni}`);
      if (object.kind === 'route' && other.kind === 'route' && other.dst === object.dst)
        throw new Error(`EEXIST ${object.dst}`);
    }
    this.objects.set(key, object);
  }

  #remove(key: string, object: ReconcileObject): void {
    if (!this.objects.delete(key)) throw new Error(`ENOENT ${key}`);
    if (!isLink(object)) return;
    for (const [other, { kind, ...rest }] of this.objects) {
      if (kind !== 'bridge' && 'link' in rest && rest.link === object.name) this.objects.delete(other);
    }
  }
}

const bridges = ['tsb-a', 'tsb-b'] as const;
const vxlans = ['tsx-a', 'tsx-b'] as const;
const links = [...bridges, ...vxlans, 'tsv-1'] as const;
const mac = fc.constantFrom('02:00:00:00:00:01', '02:00:00:00:00:02');
const vtep = fc.constantFrom('198.18.0.1', '198.18.0.2');

const anyObject: fc.Arbitrary<KernelObject> = fc.oneof(
  fc.record({
    kind: fc.constant('bridge' as const),
    name: fc.constantFrom(...bridges),
    alias: fc.constant('tsnet:bridge:0'),
    mac,
    mtu: fc.constantFrom(1400, 1450),
  }),
  fc.record({
    kind: fc.constant('vxlan' as const),
    name: fc.constantFrom(...vxlans),
    alias: fc.constant('tsnet:vxlan:0'),
    mac,
    mtu: fc.constantFrom(1400, 1450),
    vni: fc.constantFrom(1, 2),
    local: vtep,
    port: fc.constant(4790),
    master: fc.constantFrom(...bridges),
  }),
  fc.record({
    kind: fc.constant('port' as const),
    link: fc.constantFrom(...vxlans, 'tsv-1'),
    master: fc.constantFrom(...bridges),
    learning: fc.boolean(),
    neighSuppress: fc.boolean(),
  }),
  fc.record({
    kind: fc.constant('addr' as const),
    link: fc.constantFrom(...bridges),
    address: fc.constantFrom('10.0.0.1/24', 'fd00::1/64'),
    deprecated: fc.boolean(),
  }),
  fc.record({
    kind: fc.constant('route' as const),
    dst: fc.constantFrom('10.0.0.0/24', 'fd00::/64'),
    link: fc.constantFrom(...bridges),
    source: fc.constantFrom(null, '10.0.0.1'),
  }),
  fc.record({
    kind: fc.constant('neigh' as const),
    link: fc.constantFrom(...bridges),
    address: fc.constantFrom('10.0.0.5', 'fd00::5'),
    mac,
  }),
  fc.record({ kind: fc.constant('fdb-port' as const), link: fc.constantFrom(...vxlans, 'tsv-1'), mac }),
  fc.record({
    kind: fc.constant('fdb-vtep' as const),
    link: fc.constantFrom(...vxlans),
    mac: fc.oneof(mac, fc.constant(floodMac)),
    vtep,
  }),
);

/** A set that can be: one object per key, one device per VNI, one route per destination. */
function consistent(objects: readonly KernelObject[]): ReconcileObject[] {
  const taken = new Set<string>();
  const isFree = (object: ReconcileObject): boolean => {
    const claims = [
      keyOf(object),
      ...(object.kind === 'vxlan' ? [`vni ${object.vni}`] : []),
      ...(object.kind === 'route' ? [`dst ${object.dst}`] : []),
    ];
    if (claims.some((claim) => taken.has(claim))) return false;
    for (const claim of claims) taken.add(claim);
    return true;
  };
  return objects
    .filter(isFree)
    .flatMap(withImplied)
    .filter((object, index, all) => all.findIndex((other) => keyOf(other) === keyOf(object)) === index);
}

/** What a kernel could have: nothing on a link that is not there. */
function possible(objects: readonly ReconcileObject[], foreign: ReadonlySet<string>): ReconcileObject[] {
  const names = new Set(objects.filter(isLink).map(({ name }) => name));
  return objects.filter((object) => {
    const link = linkNameOf(object);
    if (foreign.has(link)) return false;
    if (object.kind === 'port' && (!names.has(object.master) || foreign.has(object.master))) return false;
    return names.has(link) || link.startsWith('tsv-');
  });
}

const anyState = fc.record({
  desired: fc.array(anyObject, { maxLength: 14 }),
  observed: fc.array(anyObject, { maxLength: 14 }),
  foreign: fc.subarray([...links], { maxLength: 2 }),
});

/** Plans and applies until nothing is left to do, and returns how many plans that took. */
function converge(kernel: ModelKernel, desired: ReadonlyMap<string, ReconcileObject>): number {
  for (let rounds = 0; rounds < 5; rounds++) {
    const plan = planOperations(
      { desired, observed: kernel.objects, linkState: kernel.linkState },
      new Set([...desired.keys(), ...kernel.objects.keys()]),
    );
    if (plan.operations.length === 0) return rounds;
    kernel.apply(plan);
  }
  throw new Error('does not converge');
}

t.test('carrying out plans takes any observed state to any desired one, and touches nothing foreign', async (t) => {
  fc.assert(
    fc.property(anyState, (state) => {
      const foreign = new Set<string>(state.foreign);
      const desired = new Map(consistent(state.desired).map((object) => [keyOf(object), object]));
      const kernel = new ModelKernel(possible(consistent(state.observed), foreign), foreign);
      const rounds = converge(kernel, desired);
      if (rounds > 3) throw new Error(`${rounds} plans`);
      const attainable = possible([...desired.values()], foreign);
      for (const object of attainable) {
        const observed = kernel.objects.get(keyOf(object));
        if (observed === undefined || !isAsDesired(object, observed)) throw new Error(`not there: ${keyOf(object)}`);
      }
      for (const [key, object] of kernel.objects) {
        const goesWithLink = object.kind === 'up' || object.kind === 'port';
        if (!desired.has(key) && !goesWithLink) throw new Error(`left over: ${key}`);
      }
    }),
    { numRuns: 2000 },
  );
  t.pass('2000 pairs of states');
});

t.test('a plan for a state that is as desired is empty', async (t) => {
  fc.assert(
    fc.property(fc.array(anyObject, { maxLength: 14 }), (objects) => {
      const state = possible(consistent(objects), new Set());
      const kernel = new ModelKernel(state, new Set());
      const plan = planOperations(
        { desired: kernel.objects, observed: kernel.objects, linkState: kernel.linkState },
        kernel.objects.keys(),
      );
      return plan.operations.length === 0 && plan.blocked.size === 0 && plan.conflicts.size === 0;
    }),
  );
  t.pass('any state');
});

t.test('what is added comes before what is removed', async (t) => {
  const fdb = (address: string): ReconcileObject => ({
    kind: 'neigh',
    link: 'tsb-a',
    address,
    mac: '02:00:00:00:00:01',
  });
  const desired = new Map([fdb('10.0.0.6')].map((object) => [keyOf(object), object]));
  const observed = new Map([fdb('10.0.0.5')].map((object) => [keyOf(object), object]));
  const plan = planOperations({ desired, observed, linkState: () => 'ours' }, [...desired.keys(), ...observed.keys()]);
  t.match(plan.operations, [{ verb: 'add' }, { verb: 'remove' }]);
});
