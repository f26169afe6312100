import tseslint from 'typescript-eslint';

const wallClock = {
  object: 'Date',
  property: 'now',
  message: 'Take a Clock or use performance.now(); only the outermost layer reads the wall clock.',
};

export default tseslint.config(
  { ignores: ['build/**', 'node_modules/**', '.tap/**'] },
  {
    files: ['**/*.ts'],
    extends: [tseslint.configs.recommended],
    // One program for all folders: one for each would read and check the same files several times.
    languageOptions: { parserOptions: { project: './tsconfig.lint.json', tsconfigRootDir: import.meta.dirname } },
    linterOptions: { reportUnusedDisableDirectives: 'error' },
    rules: {
      eqeqeq: 'error',
      'max-params': ['error', { max: 4 }],
      'no-console': 'error',
      'no-restricted-imports': [
        'error',
        {
          paths: [
            {
              name: 'node:child_process',
              importNames: ['exec', 'execSync'],
              message: 'No shell: use execFile or spawn with an argument array.',
            },
          ],
        },
      ],
      'no-warning-comments': ['error', { terms: ['todo', 'fixme', 'xxx'] }],
      '@typescript-eslint/consistent-type-imports': ['error', { fixStyle: 'inline-type-imports' }],
      '@typescript-eslint/no-explicit-any': 'error',
      '@typescript-eslint/no-floating-promises': 'error',
      '@typescript-eslint/no-misused-promises': ['error', { checksVoidReturn: false }],
      '@typescript-eslint/no-non-null-assertion': 'error',
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', caughtErrors: 'none' }],
      '@typescript-eslint/switch-exhaustiveness-check': ['error', { considerDefaultExhaustiveForUnions: true }],
    },
  },
  {
    files: ['core/**/*.ts'],
    rules: {
      'no-restricted-globals': [
        'error',
        { name: 'process', message: 'core does no I/O.' },
        { name: 'setTimeout', message: 'core has no clock.' },
      ],
      'no-restricted-properties': [
        'error',
        wallClock,
        { object: 'Math', property: 'random', message: 'core gets randomness injected.' },
      ],
    },
  },
  {
    // Tests start tap's subtests without awaiting them, and may look at the wall clock.
    files: ['test/**/*.ts', 'bench/**/*.ts'],
    rules: {
      '@typescript-eslint/no-floating-promises': [
        'error',
        { allowForKnownSafePromises: [{ from: 'package', package: '@tapjs/core', name: 'PromiseWithSubtest' }] },
      ],
    },
  },
  { files: ['**/*.mjs', '**/*.js'], extends: [tseslint.configs.base], rules: { eqeqeq: 'error', 'no-undef': 'off' } },
);
