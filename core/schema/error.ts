import { Type } from 'typebox';
import type { ErrorBody, ErrorCode } from '../errors.js';
import { errorRegistry } from '../errors.js';
import { closed, shapeOf } from './part.js';

const errorCodes = Object.keys(errorRegistry) as ErrorCode[];

const detailValue = Type.Union([Type.String(), Type.Number(), Type.Boolean(), Type.Array(Type.String())]);

export const errorBodySchema = shapeOf<ErrorBody>()(
  Type.Object(
    {
      code: Type.Enum(errorCodes, { description: 'Stable code' }),
      message: Type.String({ description: 'Names the field and the value' }),
      hint: Type.String({ description: 'What to do next' }),
      details: Type.Record(Type.String(), detailValue, { description: 'Values of the message, by name' }),
    },
    { ...closed, description: 'Error' },
  ),
);
