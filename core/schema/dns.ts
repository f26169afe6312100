import { Type } from 'typebox';

export const dnsQueryRequestSchema = Type.Object(
  {
    name: Type.String({ minLength: 1, maxLength: 255 }),
    type: Type.Optional(Type.String({ maxLength: 16, pattern: '^[A-Za-z0-9]+$' })),
    from: Type.Optional(Type.String({ minLength: 1, maxLength: 4200 })),
  },
  { additionalProperties: false },
);
