/**
 * Who may import what (docs/architecture.md). `tsc -b` with project references holds the same line
 * between folders; this says it per rule, and adds packages, cycles and the addon's loader.
 */

/** @type {import('dependency-cruiser').IConfiguration} */
module.exports = {
  forbidden: [
    {
      name: 'core-is-pure',
      comment: 'core imports nothing but typebox: no I/O, not even node:*.',
      severity: 'error',
      from: { path: '^core/' },
      to: { pathNot: ['^core/', '^(node_modules/)?typebox'] },
    },
    {
      name: 'lib-knows-the-wire-only',
      comment: 'lib imports core and types of the addon.',
      severity: 'error',
      from: { path: '^lib/' },
      to: { path: '^(native|controller|agent|cni-plugin|cli|bin|test|bench)/', pathNot: '^native/api\\.ts$' },
    },
    {
      name: 'lib-takes-native-types-only',
      comment: 'A NativeApi value is handed in; lib names its types only.',
      severity: 'error',
      from: { path: '^lib/' },
      to: { path: '^native/', dependencyTypesNot: ['type-only'] },
    },
    {
      name: 'native-stands-alone',
      severity: 'error',
      from: { path: '^native/' },
      to: { path: '^(core|lib|controller|agent|cni-plugin|cli|bin|test|bench)/' },
    },
    {
      name: 'daemons-and-cli-stay-apart',
      comment: 'controller, agent, cni-plugin and cli import core and lib, never each other; bin composes them.',
      severity: 'error',
      from: { path: '^(controller|agent|cni-plugin|cli)/' },
      to: { path: '^(controller|agent|cni-plugin|cli|bin|test|bench)/', pathNot: '^$1/' },
    },
    {
      name: 'only-the-agent-is-native',
      comment: 'controller, cni-plugin and cli never load the addon, not through others either.',
      severity: 'error',
      from: { path: '^(controller|cni-plugin|cli)/' },
      to: { path: '^native/index\\.ts$', reachable: true },
    },
    {
      name: 'cli-without-schemas',
      comment: 'Schemas cost start-up time; the servers check.',
      severity: 'error',
      from: { path: '^cli/' },
      to: { path: '^(core/schema/|node_modules/(typebox|fastify|etcd3))' },
    },
    {
      name: 'no-cycles',
      severity: 'error',
      from: {},
      to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] } },
    },
    { name: 'resolvable', severity: 'error', from: {}, to: { couldNotResolve: true } },
    {
      name: 'declared-packages',
      comment: 'What runs is a dependency, not a development dependency.',
      severity: 'error',
      from: { path: '^(core|lib|controller|agent|cni-plugin|cli|bin)/' },
      to: { dependencyTypes: ['npm-dev', 'npm-no-pkg', 'npm-unknown'], pathNot: '^node_modules/@types/' },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '^build/' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.base.json' },
    enhancedResolveOptions: { exportsFields: ['exports'], conditionNames: ['import', 'node', 'default', 'types'] },
  },
};
