/**
 * The only way to make a public function here: with a key.
 *
 * The key is optional for Convex's own validation, so that a call without it gets the same
 * `unauthorized` as one with a wrong key. It is checked first, and the handler never sees it.
 */

import type { RegisteredMutation, RegisteredQuery } from "convex/server";
import { type ObjectType, type PropertyValidators, v } from "convex/values";
import { type KeyName, requireKey } from "./keys";
import { type MutationCtx, mutation, type QueryCtx, query } from "./server";

type Definition<Ctx, Fields extends PropertyValidators, Answer> = {
  args: Fields;
  handler: (ctx: Ctx, args: ObjectType<Fields>) => Promise<Answer>;
};

type Keyed<Name extends KeyName, Fields extends PropertyValidators> = ObjectType<Fields> & {
  [key in Name]?: string;
};

function keyedQuery<Name extends KeyName>(keyName: Name) {
  return <Fields extends PropertyValidators, Answer>(
    definition: Definition<QueryCtx, Fields, Answer>,
  ): RegisteredQuery<"public", Keyed<Name, Fields>, Promise<Answer>> =>
    query({
      args: fieldsWithKey(keyName, definition.args),
      handler: async (ctx: QueryCtx, args: Record<string, unknown>) =>
        await definition.handler(ctx, await withoutKey<Fields>(keyName, args)),
    });
}

function keyedMutation<Name extends KeyName>(keyName: Name) {
  return <Fields extends PropertyValidators, Answer>(
    definition: Definition<MutationCtx, Fields, Answer>,
  ): RegisteredMutation<"public", Keyed<Name, Fields>, Promise<Answer>> =>
    mutation({
      args: fieldsWithKey(keyName, definition.args),
      handler: async (ctx: MutationCtx, args: Record<string, unknown>) =>
        await definition.handler(ctx, await withoutKey<Fields>(keyName, args)),
    });
}

function fieldsWithKey(keyName: KeyName, fields: PropertyValidators): PropertyValidators {
  return { [keyName]: v.optional(v.string()), ...fields };
}

/** The other arguments of a caller whose key is good. */
async function withoutKey<Fields extends PropertyValidators>(
  keyName: KeyName,
  { [keyName]: key, ...args }: Record<string, unknown>,
): Promise<ObjectType<Fields>> {
  await requireKey(keyName, key as string | undefined);
  return args as ObjectType<Fields>;
}

export const workerQuery = keyedQuery("workerKey");
export const workerMutation = keyedMutation("workerKey");
export const operatorQuery = keyedQuery("operatorKey");
export const operatorMutation = keyedMutation("operatorKey");
