import t from 'tap';
import type { DnsQueryRequest } from '../../core/api/dns.js';
import { tsnet } from './program.js';
import { answerCluster, openStubApi } from './stub-api.js';

t.test('a record type is checked and written in one way before the agent is asked', async (t) => {
  const api = await openStubApi(answerCluster);
  t.teardown(() => api.close());
  for (const type of ['BOGUS', 'AXFR', 'OPT', 'TYPE0', 'TYPE65536', 'TYPE041', '28', '']) {
    const { code, stdout, stderr } = await tsnet(['dns', 'query', 'web', '--type', type, '-o', 'json'], api.env);
    t.same({ code, stdout }, { code: 2, stdout: '' }, type);
    t.match(JSON.parse(stderr), { code: 'ERR_USAGE', message: `"${type}"`, hint: /A, AAAA, .*SRV, TXT/ }, type);
  }
  t.same(api.requests, [], 'nothing was asked');
  const asked: readonly (readonly [string, string])[] = [
    ['aaaa', 'AAAA'],
    ['SRV', 'SRV'],
    ['TYPE28', 'AAAA'],
    ['type65', 'TYPE65'],
  ];
  for (const [type] of asked) await tsnet(['dns', 'query', 'web', '--type', type], api.env);
  t.same(
    api.requests.map(({ body }) => (body as DnsQueryRequest).type),
    asked.map(([, sent]) => sent),
  );
});

t.test('the exit status of a question says whether there is a record', async (t) => {
  let status = '';
  const api = await openStubApi((request) =>
    request.path === '/v1/agent/dns/query'
      ? { name: 'web', status, reason: 'why', records: [] }
      : answerCluster(request),
  );
  t.teardown(() => api.close());
  for (const [said, code] of [
    ['NOERROR', 0],
    ['NODATA', 3],
    ['NXDOMAIN', 3],
    ['FORWARDED', 3],
    ['REFUSED', 3],
  ] as const) {
    status = said;
    for (const format of ['table', 'json'])
      t.same((await tsnet(['dns', 'query', 'web', '-o', format], api.env)).code, code, `${said} as ${format}`);
  }
  const gone = await tsnet(['dns', 'query', 'web'], { ...api.env, TSNET_AGENT_SOCKET: '/nonexistent' });
  t.equal(gone.code, 1, 'no agent is an error');
});
