import t from 'tap';
import { PortBook, type FindListener } from '../../agent/ports/port-book.js';
import { checkPorts } from '../../core/ports.js';
import type { PortRequest } from '../../core/api/port.js';

const newBook = (findListener: FindListener = () => Promise.resolve(null)): PortBook =>
  new PortBook({ findListener, nameOf: (id) => `endpoint ${id}` });
const ports = (...requests: PortRequest[]): ReturnType<typeof checkPorts> => checkPorts(requests);

t.test('what one endpoint holds another does not get, and gets once it is released', async (t) => {
  const book = newBook();
  await book.claim('a', ports({ hostPort: 80, port: 80 }, { hostPort: 1000, hostPortEnd: 1999, port: 1000 }));
  const refused = { code: 'ERR_PORT_IN_USE', message: /endpoint a/ };
  await t.rejects(book.claim('b', ports({ hostPort: 80, port: 1 })), refused);
  await t.rejects(
    book.claim('b', ports({ hostAddress: '10.0.0.1', hostPort: 80, port: 1 })),
    refused,
    'specific against wildcard',
  );
  await t.rejects(book.claim('b', ports({ hostPort: 1500, port: 1 })), refused, 'inside a range');
  await t.rejects(book.claim('b', ports({ hostPort: 70, hostPortEnd: 90, port: 70 })), refused, 'a range around it');
  await t.rejects(
    book.claim('b', ports({ hostPort: 3000, port: 1 }, { hostPort: 1999, hostPortEnd: 2100, port: 1 })),
    refused,
    'all or none',
  );
  await t.resolves(book.claim('c', ports({ hostPort: 3000, port: 1 })), 'none of which was taken');
  await t.resolves(book.claim('d', ports({ hostPort: 80, port: 80, protocol: 'udp' })), 'protocols are apart');
  book.release('a');
  await t.resolves(book.claim('b', ports({ hostPort: 80, port: 1 }, { hostPort: 1500, port: 1 })));
});

t.test('port 0 is chosen, passing over what is held or listened on', async (t) => {
  const busy = new Set<number>();
  const book = newBook((mappings) => {
    const found = mappings.find(({ hostPort }) => busy.has(hostPort));
    return Promise.resolve(found === undefined ? null : { mapping: found, holder: 'a process' });
  });
  const [first] = await book.claim('a', ports({ hostPort: 0, port: 80 }));
  t.ok(first !== undefined && first.hostPort >= 49_152 && first.hostPortEnd === first.hostPort);
  const taken = new Set([first?.hostPort]);
  for (let count = 0; count < 200; count++) {
    const [next] = await book.claim(`e${count}`, ports({ hostPort: 0, port: 80 }));
    if (taken.has(next?.hostPort)) t.fail(`${next?.hostPort} was given twice`);
    taken.add(next?.hostPort);
    if (count === 100) for (let number = 49_152; number < 60_000; number++) busy.add(number);
    if (count > 100 && busy.has(next?.hostPort ?? 0)) t.fail(`${next?.hostPort} is listened on`);
  }
  const [range] = await book.claim('r', ports({ hostPort: 0, port: 8000, portEnd: 8009 }));
  t.equal((range?.hostPortEnd ?? 0) - (range?.hostPort ?? 0), 9, 'a range stays in one piece');
  await t.rejects(book.claim('x', ports({ hostPort: 50_000, port: 1 })), {
    code: 'ERR_PORT_IN_USE',
    message: /a process/,
  });
});

t.test('two claims at once do not both get a port', async (t) => {
  const book = newBook(() => new Promise((resolve) => setImmediate(() => resolve(null))));
  const results = await Promise.allSettled(
    ['a', 'b', 'c'].map((id) => book.claim(id, ports({ hostPort: 80, port: 80 }))),
  );
  t.equal(results.filter(({ status }) => status === 'fulfilled').length, 1);
});
