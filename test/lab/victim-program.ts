/** Makes a small lab, prints its prefix, and waits to be killed or interrupted: for the lab's own tests. */
import { Lab } from './lab.js';
import { newUnderlay } from './underlay.js';
import { removeOnSignals } from './with-lab.js';

const lab = new Lab();
removeOnSignals(lab);
await newUnderlay(lab.prefix);
await lab.sandbox();
await lab.process();
process.stdout.write(`${lab.prefix}\n`);
setInterval(() => undefined, 1000);
