import type { Test } from 'tap';
import { Lab, type LabOptions } from './lab.js';
import { removeLeftovers } from './registration.js';
import { takeRootSnapshot } from './snapshot.js';

const labTimeoutMs = 300_000;
const sharedLabTimeoutMs = 340_000;

/**
 * Runs a test body in a fresh cluster, and takes the cluster down whatever happens. Asserts that the daemons end
 * when told to, that nothing of the lab remains, and that the machine's own network is as before.
 */
export async function withLab(t: Test, options: LabOptions, body: (lab: Lab) => Promise<void>): Promise<void> {
  // Every wait inside has a deadline of its own: the test's clock is a second net.
  t.setTimeout(labTimeoutMs);
  await removeLeftovers();
  const before = await takeRootSnapshot();
  const lab = new Lab(options);
  const release = removeOnSignals(lab);
  let ended = false;
  try {
    await lab.start();
    await body(lab);
    const statuses = Object.fromEntries(await lab.stop());
    ended = true;
    t.same(
      statuses,
      Object.fromEntries(Object.keys(statuses).map((name) => [name, 0])),
      'daemons end cleanly when told to',
    );
  } finally {
    if (!ended || !t.passing()) t.comment(lab.logs());
    const remains = await lab.remove();
    release();
    t.same(remains, [], 'nothing of the lab remains');
    t.same(await takeRootSnapshot(), before, 'the machine outside the lab is as before');
  }
}

/** A part of a test that shares its lab with others, by what it is about. */
export type LabParts = Readonly<Record<string, (t: Test, lab: Lab) => Promise<void>>>;

/**
 * Runs parts of a test one after the other in one cluster, which starts anew for none of them: each finds it without
 * networks, and has what it makes taken away. For parts that change nothing of hosts but what agents mend.
 */
export async function withSharedLab(t: Test, options: LabOptions, parts: LabParts): Promise<void> {
  await withLab(t, options, async (lab) => {
    t.setTimeout(sharedLabTimeoutMs);
    for (const [title, part] of Object.entries(parts)) {
      await t.test(title, async (t) => {
        t.setTimeout(labTimeoutMs);
        await part(t, lab);
      });
      await lab.clear();
    }
  });
}

const fatalSignals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** Removes the lab when somebody ends this process; what takes that back. */
export function removeOnSignals(lab: Lab): () => void {
  const remove = (signal: NodeJS.Signals): void => {
    void lab.remove().finally(() => process.exit(signal === 'SIGINT' ? 130 : 143));
  };
  for (const signal of fatalSignals) process.on(signal, remove);
  return () => {
    for (const signal of fatalSignals) process.off(signal, remove);
  };
}
