import { Type } from 'typebox';
import type { AgentStatus, ControllerStatus } from '../api/status.js';
import * as part from './part.js';
import { closed, orNull, shapeOf, text } from './part.js';
import * as record from './record.js';

export const controllerStatusSchema = shapeOf<ControllerStatus>()(
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

const failing = Type.Object(
  { object: Type.String({ maxLength: 512 }), error: Type.String({ maxLength: 4096 }) },
  closed,
);

const warning = Type.Object(
  { code: text('Error code', 'ERR_MTU_UNDERLAY', 64), message: Type.String({ maxLength: 4096 }) },
  closed,
);

export const agentStatusSchema = shapeOf<AgentStatus>()(
  Type.Object(
    {
      version: part.version,
      host: part.hostName,
      vtep: orNull(part.addrText),
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
