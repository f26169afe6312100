import { Lab, type LabOptions } from '../test/lab/lab.js';
import { removeLeftovers } from '../test/lab/registration.js';
import { removeOnSignals } from '../test/lab/with-lab.js';

/** Runs something in a fresh cluster and takes it down whatever happens. */
export async function inLab<T>(options: LabOptions, body: (lab: Lab) => Promise<T>): Promise<T> {
  await removeLeftovers();
  const lab = new Lab(options);
  const release = removeOnSignals(lab);
  try {
    await lab.start();
    return await body(lab);
  } catch (error) {
    process.stderr.write(`${lab.logs(20)}\n`);
    throw error;
  } finally {
    const remains = await lab.remove();
    release();
    if (remains.length > 0) process.stderr.write(`not removed: ${remains.join(', ')}\n`);
  }
}
