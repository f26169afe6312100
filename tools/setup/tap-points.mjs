/** Keys of a point's diagnostics that say where it stands in the source, or nothing that its place does not say. */
const unsaid = new Set(['at', 'source', 'compare', 'tapCaught', 'generated', 'test']);
const mostLines = 14;
const mostLetters = 400;

/**
 * The failing points of a file's TAP, innermost ones only: each with the names of the tests that it is in, its place in
 * the source, and what its diagnostics say, shortened.
 */
export function failingPoints(text) {
  const lines = text.split('\n');
  const open = [];
  const points = [];
  for (let at = 0; at < lines.length; at += 1) {
    const subtest = /^( *)# Subtest: (.*)$/.exec(lines[at]);
    if (subtest !== null) {
      open.push({ indent: subtest[1].length, name: subtest[2], failed: points.length });
      continue;
    }
    const point = /^( *)(not )?ok \d+(?: - (.*?))?( # (?:time=|skip|todo).*)?( \{)?$/i.exec(lines[at]);
    if (point === null) continue;
    const [, { length: indent }, not, name = '', directive = ''] = point;
    const ended = open.findIndex((test) => test.indent >= indent);
    const own = ended < 0 ? undefined : open.splice(ended)[0];
    if (not === undefined || /# (skip|todo)/i.test(directive)) continue;
    // The end of a test whose points have been listed says nothing new.
    if (own?.indent === indent && points.length > own.failed) continue;
    points.push({
      path: [...open.map((test) => test.name), name].map(shortened).join(' > '),
      ...readDiagnostics(lines, at + 1, indent + 2),
    });
  }
  return points;
}

/** What stands between `---` and `...`: its place, and the lines of the keys that say something. */
function readDiagnostics(lines, from, indent) {
  const pad = ' '.repeat(indent);
  if (lines[from] !== `${pad}---`) return { place: '', said: [] };
  const said = [];
  const at = {};
  let key = '';
  for (let index = from + 1; index < lines.length && lines[index] !== `${pad}...`; index += 1) {
    const line = lines[index].slice(indent);
    const begun = /^([\w"]+):/.exec(line);
    if (begun !== null) key = begun[1];
    const place = key === 'at' ? /^ {2}(fileName|lineNumber): (.*)$/.exec(line) : null;
    if (place !== null) at[place[1]] = place[2];
    if (!unsaid.has(key) && line !== '') said.push(shortened(line));
  }
  // What a function that tests share has thrown is looked for where the test called it.
  const called = said.map((line) => /\b([^\s()]+\.test\.ts:\d+):\d+/.exec(line)?.[1]).find(Boolean);
  const place = called ?? (at.fileName === undefined ? '' : `${at.fileName}:${at.lineNumber}`);
  const more = said.length > mostLines ? [`(${said.length - mostLines} lines more)`] : [];
  return { place, said: [...said.slice(0, mostLines), ...more] };
}

function shortened(text) {
  return text.length > mostLetters ? `${text.slice(0, mostLetters)}…` : text;
}
